/** Restores guests that cannot renew their identity: they never run, whatever they were restored for. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HearthError } from "#base/error.ts";
import { forkVm } from "#daemon/snapshot/fork-vm.ts";
import { vmView } from "#daemon/view/vm-view.ts";
import { Vms } from "#daemon/vm/vms.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { handleOf } from "#model/vm-state.ts";
import { assertRuns } from "#testing/crash-story.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";

const NAME = parseSnapshotName("s1");
const POOL = `[warm]\nenabled = true\n[pool.web]\nimage = "debian"\ncount = 1\n`;

/** Makes the next guest that is configured answer so, and stay frozen. */
function failIdentity({ host }: FakeDaemon): void {
  const why = "The restored guest could not renew its machine id (read-only file system).";
  host.guestFaults.configureError = new HearthError("vm.identity_failed", why);
}

function running({ host }: FakeDaemon): string[] {
  return host.machine.vmms.running().map(({ plan }) => plan.name);
}

describe("a restored guest that could not renew its identity is ended", () => {
  test("when it is a VM of a named snapshot: its start fails, and the snapshot works afterwards", async (t) => {
    const daemon = await useFakeDaemon(t);
    const { host, vms, snapshots } = daemon;
    await daemon.run("source", 2);
    await snapshots.create("source", { kind: "named", name: NAME }, vms.background());
    await vms.create({ name: "web", snapshot: NAME }, false, vms.background());
    failIdentity(daemon);
    await assert.rejects(vms.start("web", vms.background()), {
      code: "vm.identity_failed",
      message: "Cannot start web. The restored guest could not renew its machine id (read-only file system).",
    });
    assert.deepEqual(running(daemon), ["source"]);
    assert.equal(
      host.driver.calls.filter((call) => call === "restore web").length,
      1,
      "it is not tried again",
    );
    await vms.start("web", vms.background());
    assert.deepEqual([host.machine.vmm("web").count, writtenOn(host.machine.vmm("web"))], [2, 2]);
  });

  test("when it was suspended: it stays suspended, and resumes once the guest can", async (t) => {
    const daemon = await useFakeDaemon(t, { features: LAYERED });
    const { host, vms, snapshots } = daemon;
    await daemon.run("web", 2);
    await snapshots.suspend("web", vms.background());
    failIdentity(daemon);
    await assert.rejects(vms.resume("web", vms.background()), {
      code: "vm.identity_failed",
      hint: /its memory and its disk are kept/,
    });
    assert.equal(host.store.getVm("web").state.phase, "suspended");
    assert.deepEqual(running(daemon), []);
    await vms.resume("web", vms.background());
    assert.deepEqual([host.machine.vmm("web").count, writtenOn(host.machine.vmm("web"))], [2, 2]);
  });

  test("when it is a fork: there is none, and the source runs", async (t) => {
    const daemon = await useFakeDaemon(t);
    await daemon.run("web", 1);
    failIdentity(daemon);
    await assert.rejects(forkVm(daemon, "web", { count: 2 }, daemon.vms.background()), {
      code: "vm.identity_failed",
    });
    assert.deepEqual(running(daemon), ["web"]);
    await assertRuns(daemon, "web");
  });

  test("when it is taken from a pool: no one gets it", async (t) => {
    const daemon = await useFakeDaemon(t, { config: POOL });
    const { host, vms, pools } = daemon;
    pools.fill();
    await pools.idle();
    const [waiting] = running(daemon);
    failIdentity(daemon);
    assert.equal(await pools.take({ name: "web", image: "debian" }, false, vms.background()), undefined);
    await pools.idle();
    assert.ok(!running(daemon).includes(waiting ?? ""), "its VMM has ended");
    assert.equal(host.store.findVm("web"), undefined);
  });
});

test("what a guest could not do of its identity is in the log and in the VM, until its next start", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  const shown = async (): Promise<readonly string[]> =>
    (await vmView(host, vms, host.store.getVm("web"))).guestWarnings;
  host.guestFaults.warnings = ["The network could not be set up: no eth0"];
  await daemon.run("web");
  assert.deepEqual(await shown(), host.guestFaults.warnings);
  assert.equal(host.machine.events.filter(({ name }) => name === "vm.identity_warned").length, 1);
  await vms.stop("web", { mode: "kill", timeoutMs: 0 }, vms.background());
  assert.deepEqual(await shown(), []);
  host.guestFaults.warnings = [];
  await vms.start("web", vms.background());
  assert.deepEqual(await shown(), []);
});

test("a VM of a pool shows what its guest could not do when it was taken", async (t) => {
  const daemon = await useFakeDaemon(t, { config: POOL });
  const { host, vms, pools } = daemon;
  pools.fill();
  await pools.idle();
  host.guestFaults.warnings = ["/etc/hosts could not be written: no"];
  const vm = await pools.take({ name: "web", image: "debian" }, false, vms.background());
  assert.ok(vm);
  const view = await vmView(host, vms, vm);
  assert.deepEqual(view.guestWarnings, host.guestFaults.warnings);
});

test("a guest that did not answer when it was to be thawed is thawed on the next connection", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms, snapshots } = daemon;
  await daemon.run("web", 1);
  const { guest } = host.machine.vmm("web");
  host.guestFaults.thawError = new HearthError("agent.unreachable", "The connection broke.");
  await snapshots.create("web", { kind: "named", name: NAME }, vms.background());
  await vms.guest("web", "exec", new AbortController().signal);
  assert.equal(guest.frozen, false);
  await assertRuns(daemon, "web");
});

test("a restarted hearthd thaws a guest that the last one left frozen, before it is used", async (t) => {
  const daemon = await useFakeDaemon(t);
  const { host, vms } = daemon;
  await daemon.run("web", 1);
  const { guest } = host.machine.vmm("web");
  guest.frozen = true;
  vms.detachAll();
  const next = new Vms(host);
  const vm = host.store.getVm("web");
  next.controllers.of(vm.id).adopt(vm, handleOf(vm.state) ?? assert.fail());
  t.after(() => next.detachAll());
  await next.guest("web", "exec", new AbortController().signal);
  assert.equal(guest.frozen, false);
});
