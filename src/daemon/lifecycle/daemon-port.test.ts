/** A real hearthd beside a real helper; neither starts a VM. */
import assert from "node:assert/strict";
import { chownSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { apiSocketPath, hearthDirs } from "#base/hearth-dirs.ts";
import type { DaemonStatus } from "#api/wire.ts";
import { Transport } from "#sdk/transport.ts";
import { APART, closedAbove, startApart } from "#testing/apart-hearthd.ts";
import type { ApartHearthd } from "#testing/apart-hearthd.ts";

const isRoot = process.geteuid?.() === 0;
const closed = closedAbove(import.meta.filename);
const O_CLOEXEC = 0o2000000;

type Place = ApartHearthd & { readonly api: Transport; log(): string };

async function start(t: TestContext): Promise<Place> {
  const home = mkdtempSync(join(tmpdir(), "hearth-"));
  const user = isRoot && closed === undefined ? APART : undefined;
  if (user !== undefined) chownSync(home, user.uid, user.gid);
  const env = { HEARTH_HOME: home, HOME: home, PATH: process.env["PATH"] ?? "" };
  const dirs = hearthDirs(env, home);
  const apart = await startApart({ env, dirs, logDir: join(home, "out"), user });
  t.after(async () => {
    apart.hearthd.kill("SIGKILL");
    await apart.ended;
    rmSync(home, { recursive: true, force: true });
  });
  const log = (): string => readFileSync(join(dirs.state, "hearthd.log"), "utf8");
  return { ...apart, api: new Transport(apiSocketPath(dirs)), log };
}

test("hearthd runs without rights beside its helper, and both end when it is told to", async (t) => {
  const { hearthd, api, ended, output } = await start(t);
  const status = await api.json<DaemonStatus>("GET", "/v1/daemon", {});
  assert.equal(status.pid, hearthd.pid);
  const lines = readFileSync(`/proc/${status.pid}/status`, "utf8");
  if (isRoot && closed === undefined) {
    assert.match(lines, new RegExp(`^Uid:(\\s+${APART.uid}){4}$`, "m"));
    assert.match(lines, /^CapEff:\s+0+$/m);
  }
  const [, flags = ""] =
    /^flags:\s+0(\d+)$/m.exec(readFileSync(`/proc/${status.pid}/fdinfo/3`, "utf8")) ?? [];
  assert.ok(Number.parseInt(flags, 8) & O_CLOEXEC, "no program that hearthd starts has the helper's socket");
  hearthd.kill("SIGTERM");
  assert.deepEqual([await ended, output()], [0, ""]);
});

test("a helper that ends makes hearthd end in order, with a line in its log and an error", async (t) => {
  const { helper, ended, output, log } = await start(t);
  helper.kill("SIGKILL");
  assert.equal(await ended, 1);
  assert.match(output(), /"code":"host\.helper_gone"/);
  assert.match(log(), /"event":"helper\.gone"/);
  assert.match(log(), /"event":"daemon\.stopping","reason":"the helper has ended"/);
});

test("hearthd that is killed leaves no helper", async (t) => {
  const { hearthd, helper, ended, output } = await start(t);
  hearthd.kill("SIGKILL");
  assert.deepEqual([await ended, output()], [null, ""]);
  assert.equal(helper.exitCode, 0);
});
