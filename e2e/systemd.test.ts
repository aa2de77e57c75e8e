/** A guest whose PID 1 is systemd, with the agent as one of its services. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { runOrThrow } from "#host/run.ts";
import { Bed } from "./bed.ts";

const bed = new Bed();
const BOOT_ID = "cat /proc/sys/kernel/random/boot_id";

before(async () => {
  await bed.ok(["image", "build", "debian-systemd"], { timeoutMs: 600_000 });
  await bed.ok(["create", "--name", "box", "--init", "systemd", "debian-systemd"]);
});

test("systemd is PID 1, reaches its target, and nothing of it failed", async () => {
  const { stdout } = await bed.hearth(["exec", "box", "--", "systemctl", "is-system-running", "--wait"]);
  const failed = await bed.ok(["exec", "box", "--", "systemctl", "--failed", "--no-legend", "--plain"]);
  assert.equal(failed, "");
  assert.equal(stdout, "running\n");
  assert.equal(await bed.sh("box", "cat /proc/1/comm"), "systemd\n");
  assert.equal(await bed.sh("box", "hostname; cat /etc/hostname"), "box\nbox\n");
});

test("kill -9 of the agent: systemd starts it again, and commands run in the same boot", async () => {
  const bootId = await bed.sh("box", BOOT_ID);
  const agent = "systemctl show -P MainPID hearth-agent";
  const pid = await bed.sh("box", agent);
  await bed.hearth(["exec", "box", "--", "sh", "-c", `kill -9 ${pid}`]);
  assert.equal(await bed.sh("box", BOOT_ID), bootId);
  assert.notEqual(await bed.sh("box", agent), pid);
  assert.equal((await bed.vm("box")).phase, "running");
});

test("stop ends the services in order, and what they wrote last is there after start", async () => {
  const unit =
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\nExecStop=sh -c 'echo stopped cleanly > /root/last'\n";
  await bed.ok(["exec", "box", "--", "tee", "/etc/systemd/system/last.service"], { stdin: unit });
  await bed.sh("box", "systemctl start last");
  await bed.ok(["stop", "--time", "60s", "box"]);
  const { phase, exit } = await bed.vm("box");
  assert.deepEqual([phase, exit?.signal], ["stopped", undefined], "the guest powered off by itself");
  await bed.ok(["start", "box"]);
  assert.equal(await bed.sh("box", "cat /root/last"), "stopped cleanly\n");
});

test("a volume is there under systemd, too, and is clean after stop", async () => {
  await bed.ok(["volume", "create", "data", "--size", "64M"]);
  await bed.ok(["stop", "--time", "60s", "box"]);
  await bed.ok(["volume", "attach", "box", "data:/data"]);
  await bed.ok(["start", "box"]);
  await bed.sh("box", "mountpoint -q /data && echo kept > /data/file");
  await bed.ok(["stop", "--time", "60s", "box"]);
  const { path } = JSON.parse(await bed.ok(["volume", "show", "--json", "data"])) as { path: string };
  const options = { timeoutMs: 60_000, signal: AbortSignal.timeout(60_000) };
  assert.doesNotMatch(await runOrThrow("e2fsck", ["-f", "-n", path], options), /journal|recover/i);
  assert.equal(await runOrThrow("debugfs", ["-R", "cat /file", path], options), "kept\n");
});

test("debian has no systemd, and --init systemd says which image has", async () => {
  const result = await bed.hearth(["create", "--init", "systemd", "debian"]);
  assert.equal(result.code, 1);
  assert.match(result.stderr, /hint: Use the image debian-systemd/);
});
