import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import { driverContract } from "#testing/driver-contract.ts";
import { OpenFiles } from "#testing/open-files.ts";
import { testedQemu } from "./tested-qemu.ts";
import { TinyVms } from "./tiny-vms.ts";

/** Nothing else on a test host has it. */
const UID = 1_999_000_000;
const uid = process.geteuid?.() === 0 ? UID : undefined;

const timing = { heartbeatMs: 200, answerDeadlineMs: 150 };

const ISOLATIONS = {
  QEMU: NO_ISOLATION,
  "QEMU in its jail": { ...NO_ISOLATION, jail: true, pidNamespace: true, uid },
} as const;

for (const [name, isolation] of Object.entries(ISOLATIONS)) {
  driverContract(name, async () => {
    const vms = new TinyVms(isolation);
    return {
      makeDriver: () => new QemuDriver({ program: testedQemu(), timing }),
      makePlan: (act) => vms.plan(act),
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
