/** Which CPU a guest of QEMU sees; Firecracker's is in firecracker.test.ts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Bed, SMALL } from "../e2e/bed.ts";

const bed = new Bed();
/** Prints how many CPUs have a flag of virtualization. */
const COUNT = "grep -c -w -E 'vmx|svm' /proc/cpuinfo || true";

async function cpusThatNest(name: string, ...flags: readonly string[]): Promise<number> {
  await bed.ok(["create", "--name", name, "--cold", ...SMALL, ...flags, "debian"]);
  const count = Number(await bed.sh(name, COUNT));
  assert.equal((await bed.vm(name)).accel, "kvm");
  await bed.ok(["rm", "-f", name]);
  return count;
}

test("with KVM a guest sees neither vmx nor svm, and one that was made with --nested does", async () => {
  // The probe first: the host's CPU has it, and hands it on when it is asked to.
  assert.ok((await cpusThatNest("nested", "--nested", "--driver", "qemu")) > 0);
  assert.equal(await cpusThatNest("plain", "--driver", "qemu"), 0);
});
