import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import { driverContract } from "#testing/driver-contract.ts";
import { TinyVms } from "./tiny-vms.ts";

driverContract("QEMU", async () => {
  const vms = new TinyVms();
  return {
    makeDriver: () => new QemuDriver({ timing: { heartbeatMs: 200, answerDeadlineMs: 150 } }),
    makePlan: (act) => vms.plan(act),
    crash: (handle) => void process.kill(handle.process.pid, "SIGKILL"),
    leftovers: () => vms.leftovers(),
    [Symbol.asyncDispose]: () => vms[Symbol.asyncDispose](),
  };
});
