/** Starts VMs whose PID 1 is systemd: their services run when the guest has all that hearthd gives it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "#base/error.ts";
import { parseSnapshotName, parseVolumeName } from "#model/ids.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";

const SYSTEMD = { image: "debian", init: "systemd" } as const;

test("a guest with systemd is configured before systemd starts, and again through its service", async (t) => {
  const daemon = await useFakeDaemon(t);
  await daemon.run("web", 0, SYSTEMD);
  const { guest, plan } = daemon.host.machine.vmm("web");
  assert.deepEqual(guest.calls, ["configure", "configure"]);
  assert.equal(guest.init, "runs");
  assert.ok(plan.kernelArgs.includes(`systemd.machine_id=${guest.machineId}`));
  await assertRuns(daemon, "web");
});

test("systemd does not start in a guest that could not be configured, and the VMM is ended", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host } = daemon;
  host.guestFaults.configureError = new HearthError(
    "agent.failed",
    "The volume for /data cannot be mounted.",
  );
  await assert.rejects(daemon.run("web", 0, SYSTEMD), { code: "agent.failed", message: /The volume for/ });
  assert.deepEqual(host.machine.vmms.running(), []);
});

test("a VM whose agent does not answer after systemd started is booted once more, and not a third time", async (t) => {
  const daemon = await useFakeDaemon(t, { features: { bootRetries: 1 } });
  const { host, vms } = daemon;
  host.guestFaults.unreachableAfterInit = 1;
  await daemon.run("web", 0, SYSTEMD);
  assert.deepEqual(host.driver.calls, ["boot web", "stop kill", "boot web"]);
  await assertRuns(daemon, "web");
  await vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  host.guestFaults.unreachableAfterInit = 2;
  await assert.rejects(vms.start("web", vms.background()), { code: "vm.boot_failed" });
});

test("a guest that boots with a snapshot's disk gets its identity before systemd starts, and only once", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, snapshots } = daemon;
  await daemon.run("source", 1, SYSTEMD);
  const name = parseSnapshotName("s1");
  await snapshots.create("source", { kind: "named", name, diskOnly: true }, vms.background());
  await daemon.run("web", 0, { snapshot: name });
  assert.deepEqual(host.machine.vmm("web").guest.calls, ["configure restored", "configure"]);
});

test("a VM with systemd and volumes boots: in a template, services would run without them", async (t) => {
  const daemon = await useFakeDaemon(t, { config: "warm.enabled = true" });
  const { host, vms, templates } = daemon;
  await daemon.run("one", 0, SYSTEMD);
  await templates.build(host.store.getVm("one"), vms.background());
  await daemon.run("two", 0, SYSTEMD);
  assert.equal(host.driver.calls.at(-1), "restore two", "without volumes it starts from the template");
  await host.volumes.cleanUp();
  await host.volumes.create({ name: parseVolumeName("data"), sizeBytes: 2 ** 26 }, t.signal);
  const volumes = [{ name: parseVolumeName("data"), path: "/data" }];
  await daemon.run("three", 0, { ...SYSTEMD, volumes });
  assert.equal(host.driver.calls.at(-1), "boot three");
  assert.equal(await templates.build(host.store.getVm("three"), vms.background()), undefined);
});
