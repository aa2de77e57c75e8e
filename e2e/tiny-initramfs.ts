/**
 * An initramfs of 1 kB whose init does one thing, for tests of a driver alone: no agent, no image, no
 * compiler. The init is x86-64 machine code in the smallest ELF file that Linux runs.
 */
/** What it does after its first line; `panic` ends init, and with it the kernel. */
export type TinyInit = "wait" | "power-off" | "reboot" | "panic" | "flood";

const SYS = { write: 1, pause: 34, exit: 60, reboot: 169 };
const REBOOT_MAGIC = [0xfee1dead, 672274793] as const;
const POWER_OFF = 0x4321fedc;
const RESTART = 0x01234567;

/** An uncompressed cpio archive with that one `/init`. */
export function tinyInitramfs(act: TinyInit): Buffer {
  const file = cpioEntry("init", 0o100755, elf(codeOf(act)));
  return Buffer.concat([file, cpioEntry("TRAILER!!!", 0, Buffer.alloc(0))]);
}

/** Every init says this first. */
export const TINY_READY = "tiny init runs";

function codeOf(act: TinyInit): Buffer {
  const hello = print(`${TINY_READY}\n`);
  switch (act) {
    case "wait":
      return Buffer.concat([hello, call(SYS.pause), call(SYS.exit, 1)]);
    case "power-off":
      return Buffer.concat([hello, call(SYS.reboot, ...REBOOT_MAGIC, POWER_OFF)]);
    case "reboot":
      return Buffer.concat([hello, call(SYS.reboot, ...REBOOT_MAGIC, RESTART)]);
    case "panic":
      return Buffer.concat([hello, call(SYS.exit, 1)]); // The kernel does not go on without its init.
    case "flood":
      return Buffer.concat([hello, forever(print(`${"x".repeat(1023)}\n`))]);
  }
}

/** mov eax, number; mov edi|esi|edx, argument; syscall */
function call(number: number, ...args: number[]): Buffer {
  const code = [0xb8, ...u32(number)];
  for (const [index, value] of args.entries()) code.push([0xbf, 0xbe, 0xba][index] ?? 0, ...u32(value));
  return Buffer.from([...code, 0x0f, 0x05]);
}

/** write(1, text, length), with the text behind a jump over it. */
function print(text: string): Buffer {
  const bytes = Buffer.from(text);
  const address = Buffer.from([0x48, 0x8d, 0x35, ...u32(5)]); // lea rsi, [rip+5]: behind the jump
  const jump = Buffer.from([0xe9, ...u32(bytes.length)]);
  const set = Buffer.from([0xb8, ...u32(SYS.write), 0xbf, ...u32(1), 0xba, ...u32(bytes.length)]);
  return Buffer.concat([set, address, jump, bytes, Buffer.from([0x0f, 0x05])]);
}

function forever(code: Buffer): Buffer {
  return Buffer.concat([code, Buffer.from([0xe9, ...u32(-code.length - 5)])]);
}

function u32(value: number): number[] {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return [...bytes];
}

/** One loadable segment that is the whole file, at 4 MiB. */
function elf(code: Buffer): Buffer {
  const base = 0x400000;
  const header = Buffer.alloc(64 + 56);
  const size = header.length + code.length;
  header.write("\x7fELF\x02\x01\x01", 0, "latin1");
  header.writeUInt16LE(2, 16); // executable
  header.writeUInt16LE(62, 18); // x86-64
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(BigInt(base + header.length), 24); // entry
  header.writeBigUInt64LE(64n, 32); // program headers
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(1, 56);
  header.writeUInt32LE(1, 64); // PT_LOAD
  header.writeUInt32LE(5, 68); // read and execute
  header.writeBigUInt64LE(BigInt(base), 80);
  header.writeBigUInt64LE(BigInt(base), 88);
  header.writeBigUInt64LE(BigInt(size), 96);
  header.writeBigUInt64LE(BigInt(size), 104);
  header.writeBigUInt64LE(4096n, 112);
  return Buffer.concat([header, code]);
}

/** The "newc" format: thirteen numbers in hex, the name, the content, each padded to four bytes. */
function cpioEntry(name: string, mode: number, content: Buffer): Buffer {
  const fields = [1, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}${name}\0`;
  return Buffer.concat([padded(Buffer.from(header)), padded(content)]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
