import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { run } from "#host/run.ts";

const isRoot = process.geteuid?.() === 0;
const skip = isRoot ? false : "VMs of a hearthd that is not root have no network of their own";
/** Runs one scenario of `testing/network-scenarios.ts` in a network namespace of its own. */
const SCENARIOS = fileURLToPath(new URL("../testing/network-scenarios.ts", import.meta.url));

/** Runs a scenario, after which nothing may be left. */
async function play(t: TestContext, scenario: string): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "hearth-netns-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const argv = ["--net", process.execPath, SCENARIOS, scenario, join(dir, "netns")];
  const { ok, stdout, stderr } = await run("unshare", argv, { timeoutMs: 60_000, signal: t.signal });
  assert.ok(ok, stderr);
  assert.equal(stdout, "done\n", stderr);
  const left = existsSync(join(dir, "netns")) ? readdirSync(join(dir, "netns")) : [];
  assert.deepEqual(
    left.filter((name) => name !== ".lock"),
    [],
  );
  assert.ok(!readFileSync("/proc/self/mountinfo", "utf8").includes(dir));
}

test("a network is made twice and removed twice, and the host is as before", { skip }, (t) =>
  play(t, "twice"),
);

test("a network with domains has a resolver, which starts again when needed, and goes", { skip }, (t) =>
  play(t, "named"),
);

test("a host that was a router before is one after, with its own rules", { skip }, (t) => play(t, "router"));

test("a host that was no router forwards for VMs only, and nothing after the last one", { skip }, (t) =>
  play(t, "closed"),
);

test("a VM has IPv6 if its host has a default route for it, and the host is as before", { skip }, (t) =>
  play(t, "ipv6"),
);

test("a host whose IPv6 routes were advertised to it keeps them while VMs have networks", { skip }, (t) =>
  play(t, "advertised"),
);

test("a host that was a router for IPv6 before is one after", { skip }, (t) => play(t, "router6"));

test("two hosts that share a directory each forward as they did before", { skip }, (t) => play(t, "shared"));

test("an address that another route has is left to it, and the VM gets the next", { skip }, (t) =>
  play(t, "taken"),
);

test("the host's rules are made again where somebody has flushed them", { skip }, (t) => play(t, "flushed"));

test("a limit is in force from the beginning, changes, and goes", { skip }, (t) => play(t, "limited"));

test("VMs on a private network have addresses of it, and it goes with the last one", { skip }, (t) =>
  play(t, "private"),
);

test("ports are published twice, and go with the network", { skip }, (t) => play(t, "published"));

test("networks that are made at the same moment have addresses of their own, and all go", { skip }, (t) =>
  play(t, "contend"),
);

test("a network that cannot be made, and one that is cancelled, leave nothing", { skip }, (t) =>
  play(t, "fail"),
);

test("what a killed helper has left of a network is removed", { skip }, (t) => play(t, "killed"));
