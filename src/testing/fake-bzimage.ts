import { gzipSync } from "node:zlib";

/** The begin of an ELF file for x86-64, followed by `text`. */
export function fakeElf(text: string): Buffer {
  const head = Buffer.alloc(64);
  head.set([0x7f, 0x45, 0x4c, 0x46, 2, 1]);
  head.writeUInt16LE(62, 18);
  return Buffer.concat([head, Buffer.from(text)]);
}

/** A bzImage with two setup sectors around a payload as the kernel's build makes it: the size comes last. */
export function fakeBzImage(payload: Buffer): Buffer {
  const setup = Buffer.alloc(3 * 512);
  setup.writeUInt8(2, 0x1f1);
  setup.write("HdrS", 0x202, "latin1");
  setup.writeUInt16LE(0x20f, 0x206);
  setup.writeUInt32LE(16, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(16), payload, Buffer.from("what comes after it")]);
}

/** Appends the size that the kernel's build appends to a stream that does not end with its own unpacked size. */
export function withSize(packed: Uint8Array, unpackedBytes: number): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(unpackedBytes);
  return Buffer.concat([packed, size]);
}

/** A whole kernel that unpacks to `fakeElf(text)`. */
export function fakeKernel(text: string): Buffer {
  return fakeBzImage(gzipSync(fakeElf(text)));
}
