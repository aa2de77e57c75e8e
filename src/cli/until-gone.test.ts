import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { untilGone } from "#cli/until-gone.ts";

test("a zombie is gone", async (t) => {
  // The shell's child ends when the shell has become a program that reaps no children.
  const child = 'until [ "$(cat /proc/$$/comm)" = sleep ]; do :; done';
  const parent = spawn("sh", ["-c", `{ ${child}; } & echo $!; exec sleep 1000`], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => parent.kill("SIGKILL"));
  const [line] = (await once(parent.stdout, "data")) as [Buffer];
  const pid = Number(line.toString());
  await untilGone(pid);
  assert.match(readFileSync(`/proc/${pid}/stat`, "utf8"), /\) Z /, "it is a zombie still");
});

test("a running process is waited for", async () => {
  const child = spawn("sleep", ["1000"], { stdio: "ignore" });
  await once(child, "spawn");
  assert.ok(child.pid);
  let isGone = false;
  const gone = untilGone(child.pid).then(() => (isGone = true));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isGone, false);
  child.kill("SIGKILL");
  await gone;
});
