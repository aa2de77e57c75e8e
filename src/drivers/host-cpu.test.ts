import assert from "node:assert/strict";
import { test } from "node:test";
import { describeHostCpu } from "#drivers/host-cpu.ts";

const ARM =
  "processor\t: 0\nFeatures\t: fp asimd evtstrm\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\nprocessor\t: 1\n";

test("ARM hosts with different CPUs are told apart, although the kernel does not name the CPU", () => {
  assert.notEqual(describeHostCpu(ARM), describeHostCpu(ARM.replace("0xd0c", "0xd49")));
  assert.notEqual(describeHostCpu(ARM), describeHostCpu(ARM.replace("asimd", "asimd sve")));
  assert.equal(describeHostCpu(ARM), describeHostCpu(ARM.replace("processor\t: 1", "processor\t: 3")));
});

test("the description of an x86 host stays as stored snapshots have it", () => {
  const x86 = "model name\t: A CPU\nstepping\t: 1\nflags\t\t: fpu vme\n\nmodel name\t: Another\n";
  assert.equal(describeHostCpu(x86), "A CPU c1454ebda256");
});
