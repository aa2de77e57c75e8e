import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { LIMITS } from "#model/limits.ts";
import { describeFeatures } from "#drivers/qemu/features.ts";

const firmware = { qboot: "/usr/share/qemu/qboot.rom", dataDirs: [] };
const installed = (version: string) => ({ version, firmware });

describe("the QEMU driver's features of a host", () => {
  const CASES = [
    { version: "6.1.9", ok: false },
    { version: "6.2", ok: true },
    { version: "6.2.0", ok: true },
    { version: "7.2.22", ok: true },
    { version: "10.0.2", ok: true },
  ];
  for (const { version, ok } of CASES) {
    test(`QEMU ${version} is ${ok ? "new enough" : "too old"}`, () => {
      assert.equal(describeFeatures(installed(version), "tcg").available.ok, ok);
    });
  }

  test("a QEMU that is missing comes with the command that installs it", () => {
    const { available } = describeFeatures(new Error("`qemu-system-x86_64` is not installed."), "tcg");
    assert.ok(!available.ok);
    assert.match(available.hint, /apt-get install qemu-system-x86/);
  });

  test("a QEMU without the firmware of microvms is not available, and the package that has it is named", () => {
    const { available } = describeFeatures({ ...installed("10.0.2"), firmware: undefined }, "tcg");
    assert.ok(!available.ok);
    assert.match(available.reason, /without qboot\.rom/);
    assert.match(available.hint, /apt-get install qemu-system-data/);
  });

  test("the caveat that it is no security boundary is given for emulation only", () => {
    const emulated = describeFeatures(installed("7.2.22"), "tcg");
    const hardware = describeFeatures(installed("7.2.22"), "kvm");
    assert.match(emulated.caveats.join("\n"), /not a security boundary/);
    assert.doesNotMatch(hardware.caveats.join("\n"), /not a security boundary/);
    // KVM may be emulated itself, which is as slow.
    assert.equal(emulated.agentDeadlineMs, hardware.agentDeadlineMs);
    assert.deepEqual([emulated.bootRetries, hardware.bootRetries], [1, 0]);
  });

  test("an emulated guest with nested VMs has one CPU, with every version of QEMU", () => {
    for (const version of ["7.2.22", "10.0.2"]) {
      assert.equal(describeFeatures(installed(version), "tcg").nested?.cpusMax, 1);
      assert.equal(describeFeatures(installed(version), "kvm").nested?.cpusMax, LIMITS.cpusMax);
    }
  });

  test("the caveats of a restored VM are given, and differ before QEMU 8.2", () => {
    const of = (version: string): string =>
      describeFeatures(installed(version), "kvm").snapshots?.caveats.join("\n") ?? "";
    for (const version of ["7.2.22", "8.1.5"]) assert.match(of(version), /its own copy/);
    for (const version of ["8.2", "8.2.0", "10.0.2"]) assert.match(of(version), /cannot give memory back/);
  });
});
