import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { sha256 } from "#host/hash-file.ts";
import { extractVmlinux } from "#images/extract-vmlinux.ts";
import { fakeBzImage, fakeElf, withSize } from "#testing/fake-bzimage.ts";

const ELF = fakeElf("a kernel ".repeat(1_000));

/** Packs LZ4's legacy frame, with literals only. */
function lz4(content: Buffer): Buffer {
  const block: number[] = [0xf0];
  for (let rest = content.length - 15; ; rest -= 255) {
    block.push(Math.min(rest, 255));
    if (rest < 255) break;
  }
  const head = Buffer.from("02214c1800000000", "hex");
  head.writeUInt32LE(block.length + content.length, 4);
  return Buffer.concat([head, Buffer.from(block), content]);
}

const PACKED: Readonly<Record<string, Buffer>> = {
  gzip: gzipSync(ELF),
  lz4: withSize(lz4(ELF), ELF.length),
  zstd: withSize(zstdCompressSync(ELF), ELF.length),
};

type Bed = {
  readonly target: string;
  extract(image: Buffer, signal?: AbortSignal): ReturnType<typeof extractVmlinux>;
};

function makeBed(t: TestContext): Bed {
  const dir = mkdtempSync(join(tmpdir(), "hearth-vmlinux-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const source = join(dir, "vmlinuz");
  const target = join(dir, "vmlinux");
  return {
    target,
    extract: (image, signal = t.signal) => {
      writeFileSync(source, image);
      rmSync(target, { force: true });
      return extractVmlinux(source, target, signal);
    },
  };
}

/** Returns the image with one field of its header changed. */
function changed(change: (image: Buffer) => unknown): Buffer {
  const image = fakeBzImage(PACKED["zstd"]!);
  change(image);
  return image;
}

describe("the kernel in a bzImage", () => {
  for (const [packing, payload] of Object.entries(PACKED)) {
    test(`is unpacked from ${packing}, with its hash and size`, async (t) => {
      const { extract, target } = makeBed(t);
      const made = await extract(fakeBzImage(payload));
      assert.deepEqual(readFileSync(target), ELF);
      assert.deepEqual(made, { sha256: sha256(ELF), sizeBytes: ELF.length });
    });

    test(`is refused when its ${packing} stream is damaged or cut, and says so`, async (t) => {
      const { extract } = makeBed(t);
      const size = payload.subarray(-4);
      const cut = Buffer.concat([payload.subarray(0, payload.length / 2), size]);
      await assert.rejects(extract(fakeBzImage(cut)), { code: "kernel.unsupported" });
      const damaged = Buffer.from(payload);
      for (let at = 4; at < 24; at++) damaged[at] = 0xff;
      await assert.rejects(extract(fakeBzImage(damaged)), { code: "kernel.unsupported" });
    });
  }

  test("is found behind the four setup sectors that a header of 0 means", async (t) => {
    const { extract } = makeBed(t);
    const image = fakeBzImage(PACKED["lz4"]!);
    image.writeUInt8(0, 0x1f1);
    image.writeUInt32LE(16 + 3 * 512 - 5 * 512 + 2 ** 32, 0x248);
    await assert.rejects(extract(image), /payload/, "an offset is not negative");
    const shifted = Buffer.concat([image.subarray(0, 1536), Buffer.alloc(1024), image.subarray(1536)]);
    shifted.writeUInt32LE(16, 0x248);
    assert.equal((await extract(shifted)).sizeBytes, ELF.length);
  });

  const REFUSED: readonly (readonly [what: string, image: Buffer, reason: RegExp])[] = [
    ["an empty file", Buffer.alloc(0), /not an x86 bzImage/],
    ["an ELF file", Buffer.concat([ELF, ELF]), /not an x86 bzImage/],
    ["an old boot protocol", changed((image) => image.writeUInt16LE(0x207, 0x206)), /older than 2\.08/],
    ["a payload outside", changed((image) => image.writeUInt32LE(2 ** 31, 0x248)), /payload is outside/],
    ["a payload longer than the file", changed((image) => image.writeUInt32LE(2 ** 20, 0x24c)), /payload/],
    ["a payload without room", changed((image) => image.writeUInt32LE(7, 0x24c)), /payload/],
    [
      "a kernel of 4 GB",
      fakeBzImage(withSize(zstdCompressSync(ELF), 2 ** 32 - 1)),
      /unpacked size would be 4/,
    ],
    [
      "a kernel larger than it says",
      fakeBzImage(withSize(zstdCompressSync(ELF), 100)),
      /more than the 100 bytes/,
    ],
    [
      "a kernel smaller than it says",
      fakeBzImage(withSize(zstdCompressSync(ELF), 99_999)),
      /instead of the 99999/,
    ],
    ["no ELF file", fakeBzImage(gzipSync("a kernel of another kind")), /not an ELF file/],
    ["xz", fakeBzImage(Buffer.from("fd377a585a0000004d0000000100", "hex")), /compressed with xz/],
    ["bzip2", fakeBzImage(Buffer.from("425a683931415926000000000100", "hex")), /compressed with bzip2/],
    ["LZMA", fakeBzImage(Buffer.from("5d00000004ffffffffff00000100", "hex")), /unpacks|compressed with LZMA/],
    ["LZO", fakeBzImage(Buffer.from("894c5a4f000d0a1a0a0000010000", "hex")), /compressed with LZO/],
    ["unknown bytes", fakeBzImage(Buffer.from("0102030405060708090a00010000", "hex")), /010203040506/],
  ];
  for (const [what, image, reason] of REFUSED) {
    test(`is refused with the reason: ${what}`, async (t) => {
      await assert.rejects(makeBed(t).extract(image), { code: "kernel.unsupported", message: reason });
    });
  }

  test("is not unpacked any further once the caller has aborted", async (t) => {
    const left = new AbortController();
    left.abort(new Error("the caller left"));
    await assert.rejects(makeBed(t).extract(fakeBzImage(PACKED["lz4"]!), left.signal));
  });
});
