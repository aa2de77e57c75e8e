/** Runs the driver contract with real Firecracker and real QEMU with KVM. */
import { globSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after } from "node:test";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import type { BootIsolation } from "#drivers/boot-isolation.ts";
import { FirecrackerDriver } from "#drivers/firecracker/firecracker-driver.ts";
import { findFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import type { BootPlan, VmDriver } from "#drivers/vm-driver.ts";
import { extractVmlinux } from "#images/extract-vmlinux.ts";
import { driverContract } from "#testing/driver-contract.ts";
import type { GuestAct } from "#testing/contract-host.ts";
import { OpenFiles } from "#testing/open-files.ts";
import { TinyVms } from "../e2e/tiny-vms.ts";

/** Nothing else in the lab has it. */
const UID = 1_999_000_000;
const [kernel = ""] = globSync("/srv/cache/hearth/kernels/*/vmlinuz");
/** A heartbeat more often than in life, as far as emulated KVM answers in time. */
const timing = { heartbeatMs: 2_000, answerDeadlineMs: 1_500 };

const JAILED: BootIsolation = { ...NO_ISOLATION, jail: true, pidNamespace: true, uid: UID };

// Without a jail Firecracker is tested in firecracker-snapshots.test.ts, and QEMU is held to the contract on every
// host.
contract("Firecracker in its jail", firecracker, async (vms, act) => {
  // It has no power switch: its guests end by a restart.
  const plan = await vms.plan(act === "power-off" ? "reboot" : act, { kernel: await kernelElf() });
  return { ...plan, isolation: { ...JAILED, jailDir: join(vms.dir, `jail-${plan.id}`) } };
});
contract(
  "QEMU with KVM in its jail",
  () => new QemuDriver({ accel: "kvm", timing }),
  (vms, act) => vms.plan(act, { kernel }),
);

function contract(
  name: string,
  makeDriver: () => VmDriver,
  makePlan: (vms: TinyVms, act: GuestAct) => Promise<BootPlan>,
): void {
  driverContract(name, async () => {
    const vms = new TinyVms(JAILED, join(dirname(kernel), "modules"));
    return {
      makeDriver,
      makePlan: (act) => makePlan(vms, act),
      counted: (vm) => vms.counted(vm),
      snapshotFiles: (called) => vms.snapshotFiles(called),
      openFiles: ({ processes: [vmm] }) => new OpenFiles(vmm.pid),
      crash: (handle) => void process.kill(handle.processes[0].pid, "SIGKILL"),
      describe: () => vms.describe(),
      leftovers: () => vms.leftovers(),
      [Symbol.asyncDispose]: () => vms[Symbol.asyncDispose](),
    };
  });
}

const elfDir = mkdtempSync(join(tmpdir(), "hearth-elf-"));
after(() => rmSync(elfDir, { recursive: true }));
let extracting: Promise<string> | undefined;

/** Once for all tests: it takes seconds where the CPU is emulated. */
function kernelElf(): Promise<string> {
  extracting ??= (async () => {
    const elf = join(elfDir, "vmlinux");
    await extractVmlinux(kernel, elf, AbortSignal.timeout(300_000));
    return elf;
  })();
  return extracting;
}

function firecracker(): VmDriver {
  return new FirecrackerDriver({
    find: (signal) => findFirecracker({ cacheDir: "/srv/cache/hearth" }, signal),
    kvm: () => Promise.resolve("works"),
    timing,
  });
}
