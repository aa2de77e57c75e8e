/**
 * Corrects the clock that KVM gives a guest, in what QEMU has saved of a VM. A QEMU that has loaded a VM and never ran
 * it saves the time since its own start in place of the clock that it has loaded (`kvmclock_pre_save` in
 * hw/i386/kvm/clock.c asks KVM, unless this QEMU has stopped the VM). A guest restored with that has a clock that does
 * not advance, and no timer fires in it, until that clock has reached its former value: for as long as the guest had
 * been up.
 */
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { HearthError } from "#base/error.ts";

/** The start of a full section of the clock: the length of its name, and the name. */
const NAME = Buffer.from("\x08kvmclock", "latin1");
/** Follow the name: instance and version, 32 bits each; then the clock's nanoseconds. */
const HEADER_BYTES = 8;
const CLOCK_BYTES = 8;
/** The only instance and version that a QEMU has written so far. */
const KNOWN = "0000000000000001";
/** The end of the file that is searched. Devices come after the memory, and take some hundred KiB. */
const TAIL_BYTES = 16 * 1024 * 1024;

export type ClockOptions = {
  /** The accelerator of the guest: only KVM gives it such a clock. */
  readonly accel: "kvm" | "tcg";
  /** True to sync the file. */
  readonly durable: boolean;
};

/**
 * Copies the clock of a saved stream into the VM state file that was made of it. An emulated guest has no such clock.
 * @throws HearthError `snapshot.failed` when a KVM guest has no known clock in one of the files: restored with another
 * clock its timers would not fire
 */
export async function keepClock(stream: string, state: string, options: ClockOptions): Promise<void> {
  if (options.accel === "tcg") return;
  await using saved = await open(stream, "r");
  await using made = await open(state, "r+");
  const from = await findClock(saved, stream);
  const to = await findClock(made, state);
  await made.write(from.clock, 0, CLOCK_BYTES, to.position);
  if (options.durable) await made.sync();
}

type Clock = { readonly position: number; readonly clock: Buffer };

/** Finds the last known section; what looks like one before it is the guest's memory. */
async function findClock(file: FileHandle, path: string): Promise<Clock> {
  const { size } = await file.stat();
  const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
  const start = size - tail.length;
  await file.read(tail, 0, tail.length, start);
  const found = tail.lastIndexOf(NAME);
  if (found === -1) throw noClock(`there is no section kvmclock in ${path}`);
  const header = tail.subarray(found + NAME.length, found + NAME.length + HEADER_BYTES).toString("hex");
  if (header !== KNOWN) throw noClock(`its section kvmclock in ${path} has instance and version ${header}`);
  const at = found + NAME.length + HEADER_BYTES;
  const clock = tail.subarray(at, at + CLOCK_BYTES);
  if (clock.length < CLOCK_BYTES) throw noClock(`its section kvmclock in ${path} is truncated`);
  return { position: start + at, clock };
}

function noClock(reason: string): HearthError {
  return new HearthError(
    "snapshot.failed",
    "Cannot save the guest clock: Hearth does not know the format of this QEMU",
    {
      cause: new Error(reason),
      hint: "Use a supported QEMU (see `hearth doctor`), or `--disk-only`.",
    },
  );
}
