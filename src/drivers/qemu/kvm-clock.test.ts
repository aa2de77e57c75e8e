import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { HearthError } from "#base/error.ts";
import { keepClock } from "#drivers/qemu/kvm-clock.ts";

/** The section as QEMU 10.0 writes it, between those of other devices. */
function section(nanoseconds: bigint): Buffer {
  const clock = Buffer.alloc(8);
  clock.writeBigUInt64BE(nanoseconds);
  const name = Buffer.from("\x04\0\0\0\x0a\x08kvmclock\0\0\0\0\0\0\0\x01", "latin1");
  const reliable = Buffer.from("\x05\x1akvmclock/clock_is_reliable\0\0\0\x01\x01\x7e\0\0\0\x0a", "latin1");
  return Buffer.concat([Buffer.from("before"), name, clock, reliable, Buffer.from("behind")]);
}

function filesOf(t: TestContext, stream: Buffer, state: Buffer): readonly [string, string] {
  const dir = mkdtempSync(join(tmpdir(), "hearth-clock-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const paths = [join(dir, "memory.stream"), join(dir, "state")] as const;
  writeFileSync(paths[0], stream);
  writeFileSync(paths[1], state);
  return paths;
}

test("the VM state file gets the clock of the stream, and nothing else in it changes", async (t) => {
  const [stream, state] = filesOf(t, section(6_845_897_749n), section(1_132_513_070n));
  await keepClock(stream, state, { accel: "kvm", durable: true });
  assert.deepEqual(readFileSync(state), section(6_845_897_749n));
});

test("bytes in the guest's memory that look like a clock are ignored", async (t) => {
  const memory = Buffer.concat([section(1n), Buffer.alloc(1024 * 1024), section(6_845_897_749n)]);
  const [stream, state] = filesOf(t, memory, section(1_132_513_070n));
  await keepClock(stream, state, { accel: "kvm", durable: false });
  assert.deepEqual(readFileSync(state), section(6_845_897_749n));
});

test("the VM state file of an emulated VM, which has no such clock, is not changed", async (t) => {
  const [stream, state] = filesOf(t, section(1n), Buffer.from("devices of an emulated VM"));
  await keepClock(stream, state, { accel: "tcg", durable: true });
  assert.equal(readFileSync(state, "utf8"), "devices of an emulated VM");
});

const NONE = Buffer.from("devices, and no clock among them");
/** The section as a future QEMU may write it. */
const NEWER = Buffer.from(section(2n).toString("latin1").replace("\0\0\0\x01", "\0\0\0\x02"), "latin1");
const CUT = section(1n).subarray(0, 30);

for (const [what, stream, state, reason] of [
  ["stream has no clock", NONE, section(1n), /no section kvmclock in .*stream/],
  ["state has no clock", section(1n), NONE, /no section kvmclock in .*state/],
  ["stream and state have no clock", NONE, NONE, /no section kvmclock/],
  ["clock has a version that is not known", NEWER, NEWER, /instance and version 0000000000000002/],
  ["clock is cut off", CUT, section(1n), /is truncated/],
] as const) {
  test(`a guest with KVM is not saved when the ${what}`, async (t) => {
    const paths = filesOf(t, stream, state);
    await assert.rejects(keepClock(...paths, { accel: "kvm", durable: true }), (error: HearthError) => {
      assert.equal(error.code, "snapshot.failed");
      assert.match(String(error.cause), reason);
      assert.deepEqual(readFileSync(paths[1]), state, "the state was not touched");
      return true;
    });
  });
}
