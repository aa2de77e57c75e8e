/** A guest with systemd as PID 1 that is restored from a template and from snapshots, in place of a boot. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Bed } from "./bed.ts";

const bed = new Bed({ warm: true });
const WORDS = ["--init", "systemd", "--memory", "512M", "--cpus", "1", "debian-systemd"];
const IDS = "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id";
let template: string;

async function assertSound(name: string): Promise<void> {
  assert.equal(
    await bed.sh(name, "cat /proc/1/comm; systemctl is-system-running --wait"),
    "systemd\nrunning\n",
  );
  assert.equal(await bed.ok(["exec", name, "--", "systemctl", "--failed", "--no-legend", "--plain"]), "");
}

before(async () => {
  await bed.ok(["image", "build", "debian-systemd"], { timeoutMs: 600_000 });
  template = (await bed.ok(["template", "build", ...WORDS])).trim();
});

test("VMs of one template have all services up, nothing failed, and ids of their own", async () => {
  const ids: string[] = [];
  for (const name of ["one", "two"]) {
    await bed.ok(["create", "--name", name, ...WORDS]);
    assert.equal((await bed.vm(name)).restoredFrom, template);
    await assertSound(name);
    const found = (await bed.sh(name, IDS)).trim().split("\n");
    assert.equal(found[0], name);
    ids.push(...found.slice(1));
  }
  assert.deepEqual([ids.length, new Set(ids).size], [4, 4]);
});

test("services start and stop in them, and what they wrote is there after stop and start", async () => {
  const unit =
    "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\nExecStop=sh -c 'echo stopped cleanly > /root/last'\n";
  await bed.ok(["exec", "one", "--", "tee", "/etc/systemd/system/last.service"], { stdin: unit });
  await bed.sh("one", "systemctl start last");
  await bed.ok(["stop", "--time", "60s", "one"]);
  const { phase, exit } = await bed.vm("one");
  assert.deepEqual([phase, exit?.signal], ["stopped", undefined], "the guest powered off by itself");
  await bed.ok(["start", "one"]);
  assert.equal(await bed.sh("one", "cat /root/last"), "stopped cleanly\n");
  await assertSound("one");
  await bed.ok(["rm", "-f", "one"]);
});

test("a service that runs continues in a copy and in the source", async () => {
  await bed.sh("two", "systemd-run --unit=sleeper sleep 424242 2>/dev/null; echo in memory > /run/note");
  const pid = await bed.sh("two", "systemctl show -P MainPID sleeper");
  await bed.ok(["fork", "--name", "copy", "two"]);
  for (const name of ["copy", "two"]) {
    assert.equal(
      await bed.sh(name, "systemctl is-active sleeper; systemctl show -P MainPID sleeper"),
      `active\n${pid}`,
    );
    assert.equal(await bed.sh(name, "hostname; cat /run/note"), `${name}\nin memory\n`);
    await assertSound(name);
  }
  await bed.ok(["rm", "-f", "copy"]);
});

test("one that was suspended resumes with its services", async () => {
  const pid = await bed.sh("two", "systemctl show -P MainPID sleeper");
  await bed.ok(["suspend", "two"]);
  assert.equal(await bed.sh("two", "systemctl show -P MainPID sleeper"), pid);
  await assertSound("two");
  await bed.ok(["rm", "-f", "two"]);
  await bed.ok(["template", "rm", template]);
  assert.deepEqual(bed.leftovers(), []);
});
