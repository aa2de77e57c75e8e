/**
 * The clock that KVM gives a guest, in what QEMU has saved of a VM. A QEMU that has loaded a VM and never ran it
 * saves the time since its own start in place of what it has loaded (`kvmclock_pre_save` in hw/i386/kvm/clock.c asks
 * KVM, unless the VM was stopped by this QEMU). A guest that goes on with that has a clock that stands still, and no
 * timer ends in it, until that clock has come to where it was: for as long as the guest had been up.
 */
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { HearthError } from "#base/error.ts";

/** How a full section begins behind its id: name with its length, instance 0, version 1; nanoseconds follow. */
const SECTION = Buffer.from("\x08kvmclock\0\0\0\0\0\0\0\x01", "latin1");
const CLOCK_BYTES = 8;
/** Devices come behind the memory, and take some hundred KiB. */
const TAIL_BYTES = 16 * 1024 * 1024;

/**
 * Gives the state that was made of a stream the clock of the stream. A VM without KVM has none.
 * @param durable whether it is waited until a power cut cannot take it away
 * @throws HearthError `snapshot.failed` when the stream has no clock and the state has one
 */
export async function keepClock(stream: string, state: string, durable: boolean): Promise<void> {
  await using made = await open(state, "r+");
  const to = await findClock(made);
  if (to === undefined) return;
  await using saved = await open(stream, "r");
  const from = await findClock(saved);
  if (from === undefined) throw new HearthError("snapshot.failed", "QEMU has not saved the guest's clock");
  await made.write(from.clock, 0, CLOCK_BYTES, to.position);
  if (durable) await made.sync();
}

type Clock = { readonly position: number; readonly clock: Buffer };

/** The last one: what looks like one before that is the guest's memory. */
async function findClock(file: FileHandle): Promise<Clock | undefined> {
  const { size } = await file.stat();
  const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
  const start = size - tail.length;
  await file.read(tail, 0, tail.length, start);
  const found = tail.lastIndexOf(SECTION);
  if (found === -1) return undefined;
  const at = found + SECTION.length;
  return { position: start + at, clock: tail.subarray(at, at + CLOCK_BYTES) };
}
