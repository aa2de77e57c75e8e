/**
 * An initramfs of 1 kB whose init does one thing, for tests of a driver alone: no agent, no image, no
 * compiler. The init is x86-64 machine code in the smallest ELF file that Linux runs.
 */
/** The work of init after its first line; `panic` ends init, and with it the kernel; `dirty` counts as well. */
export type TinyInit = "wait" | "power-off" | "reboot" | "panic" | "flood" | "count" | "dirty";

/** The memory that a guest with `dirty` changes over and over, as fast as it can. */
export const DIRTIED_BYTES = 128 * 1024 * 1024;

/** A line of a guest that counts: a number of eight digits, which are A to P. */
const COUNTED = /^([A-P]{8})\r?$/gm;
const COUNT_EVERY_NS = 50_000_000;

const SYS = {
  write: 1,
  open: 2,
  mmap: 9,
  pause: 34,
  nanosleep: 35,
  fork: 57,
  exit: 60,
  reboot: 169,
  finitModule: 313,
};
const REBOOT_MAGIC = [0xfee1dead, 672274793] as const;
const POWER_OFF = 0x4321fedc;
const RESTART = 0x01234567;

/**
 * An uncompressed cpio archive with one `/init`.
 * @param modules kernel modules, uncompressed, that it loads in this order before it acts
 */
export function tinyInitramfs(act: TinyInit, modules: readonly Buffer[] = []): Buffer {
  const files = modules.map((content, index) => cpioEntry(moduleFile(index), 0o100644, content));
  const loads = modules.map((_, index) => loadModule(`/${moduleFile(index)}`));
  const init = cpioEntry("init", 0o100755, elf(Buffer.concat([...loads, codeOf(act)])));
  return Buffer.concat([init, ...files, cpioEntry("TRAILER!!!", 0, Buffer.alloc(0))]);
}

function moduleFile(index: number): string {
  return `module-${index}`;
}

/** Every init says this first. */
export const TINY_READY = "tiny init runs";

/** Reads the numbers of a guest that counts from its console's log. */
export function readCounts(console: string): number[] {
  const valueOf = (digits: string): number =>
    [...digits].reduce((value, digit) => value * 16 + digit.charCodeAt(0) - "A".charCodeAt(0), 0);
  return [...console.matchAll(COUNTED)].map(([, digits = ""]) => valueOf(digits));
}

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
      return Buffer.concat([hello, call(SYS.exit, 1)]); // The kernel panics without its init.
    case "count":
      return Buffer.concat([hello, COUNT]);
    case "dirty":
      return Buffer.concat([hello, inChild(COUNT), DIRTY]);
    case "flood":
      return Buffer.concat([hello, forever(print(`${"x".repeat(1023)}\n`))]);
  }
}

/** Counts in r12d, writes it at rsp with a line's end, and sleeps for the time at rsp+16; for ever. */
const COUNT = Buffer.concat([
  Buffer.from([0x48, 0x83, 0xec, 0x30]), // sub rsp, 48
  Buffer.from([0x48, 0xc7, 0x44, 0x24, 0x10, ...u32(0)]), // mov qword [rsp+16], 0
  Buffer.from([0x48, 0xc7, 0x44, 0x24, 0x18, ...u32(COUNT_EVERY_NS)]), // mov qword [rsp+24], nanoseconds
  Buffer.from([0xc6, 0x44, 0x24, 0x08, 0x0a]), // mov byte [rsp+8], newline
  Buffer.from([0x45, 0x31, 0xe4]), // xor r12d, r12d
  forever(
    Buffer.concat([
      Buffer.from([0x41, 0xff, 0xc4, 0x44, 0x89, 0xe0]), // inc r12d; mov eax, r12d
      Buffer.from([0xb9, ...u32(8)]), // mov ecx, 8: digits to go
      // mov edx, eax; and edx, 15; add edx, 'A'; mov [rsp+rcx-1], dl; shr eax, 4; dec ecx; jnz back
      Buffer.from([0x89, 0xc2, 0x83, 0xe2, 0x0f, 0x83, 0xc2, 0x41, 0x88, 0x54, 0x0c, 0xff]),
      Buffer.from([0xc1, 0xe8, 0x04, 0xff, 0xc9, 0x75, 0xed]),
      // write(1, rsp, 9)
      Buffer.from([0xb8, ...u32(SYS.write), 0xbf, ...u32(1), 0x48, 0x89, 0xe6, 0xba, ...u32(9), 0x0f, 0x05]),
      // nanosleep(rsp+16, 0)
      Buffer.from([0xb8, ...u32(SYS.nanosleep), 0x48, 0x8d, 0x7c, 0x24, 0x10, 0x31, 0xf6, 0x0f, 0x05]),
    ]),
  ),
]);

/** Maps DIRTIED_BYTES, and writes the number of the round into each page; for ever. */
const DIRTY = Buffer.concat([
  // mmap(0, DIRTIED_BYTES, read and write, private and anonymous, -1, 0)
  Buffer.from([0x31, 0xff, 0xbe, ...u32(DIRTIED_BYTES), 0xba, ...u32(3), 0x41, 0xba, ...u32(0x22)]),
  Buffer.from([0x4d, 0x31, 0xc0, 0x49, 0xff, 0xc8, 0x45, 0x31, 0xc9, 0xb8, ...u32(SYS.mmap), 0x0f, 0x05]),
  Buffer.from([0x48, 0x89, 0xc3, 0x45, 0x31, 0xe4]), // mov rbx, rax; xor r12d, r12d
  forever(
    Buffer.concat([
      Buffer.from([0x41, 0xff, 0xc4, 0x31, 0xc9]), // inc r12d; xor ecx, ecx
      // mov [rbx+rcx], r12d; add ecx, 4096; cmp ecx, DIRTIED_BYTES; jb back
      Buffer.from([0x44, 0x89, 0x24, 0x0b, 0x81, 0xc1, ...u32(4096)]),
      Buffer.from([0x81, 0xf9, ...u32(DIRTIED_BYTES), 0x72, 0xee]),
    ]),
  ),
]);

/** fork(), of which the child runs `code`, and the parent what follows. */
function inChild(code: Buffer): Buffer {
  // test eax, eax; jnz behind the code
  const jump = [0x85, 0xc0, 0x0f, 0x85, ...u32(code.length)];
  return Buffer.concat([call(SYS.fork), Buffer.from(jump), code]);
}

/** mov eax, number; mov edi|esi|edx, argument; syscall */
function call(number: number, ...args: number[]): Buffer {
  const code = [0xb8, ...u32(number)];
  for (const [index, value] of args.entries()) code.push([0xbf, 0xbe, 0xba][index] ?? 0, ...u32(value));
  return Buffer.from([...code, 0x0f, 0x05]);
}

/** finit_module(open(path, O_RDONLY), "", 0), with the path behind a jump over it. */
function loadModule(path: string): Buffer {
  const bytes = Buffer.from(`${path}\0`);
  return Buffer.concat([
    Buffer.from([0x48, 0x8d, 0x3d, ...u32(5)]), // lea rdi, [rip+5]: behind the jump
    jumpOver(bytes),
    Buffer.from([0x31, 0xf6, 0xb8, ...u32(SYS.open), 0x0f, 0x05]), // xor esi, esi
    Buffer.from([0x89, 0xc7, 0x6a, 0x00, 0x48, 0x89, 0xe6, 0x31, 0xd2]), // mov edi, eax; push 0; mov rsi, rsp; xor edx, edx
    Buffer.from([0xb8, ...u32(SYS.finitModule), 0x0f, 0x05, 0x58]), // pop rax
  ]);
}

function jumpOver(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([0xe9, ...u32(bytes.length)]), bytes]);
}

/** write(1, text, length), with the text behind a jump over it. */
function print(text: string): Buffer {
  const bytes = Buffer.from(text);
  const address = Buffer.from([0x48, 0x8d, 0x35, ...u32(5)]); // lea rsi, [rip+5]: behind the jump
  const set = Buffer.from([0xb8, ...u32(SYS.write), 0xbf, ...u32(1), 0xba, ...u32(bytes.length)]);
  return Buffer.concat([set, address, jumpOver(bytes), Buffer.from([0x0f, 0x05])]);
}

function forever(code: Buffer): Buffer {
  return Buffer.concat([code, Buffer.from([0xe9, ...u32(-code.length - 5)])]);
}

function u32(value: number): number[] {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return [...bytes];
}

/** Makes an ELF file of one loadable segment, at 4 MiB. */
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
