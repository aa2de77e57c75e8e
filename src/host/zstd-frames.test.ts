import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { constants, createZstdCompress, zstdCompressSync } from "node:zlib";
import { ZstdFrames } from "#host/zstd-frames.ts";

const { ZSTD_c_checksumFlag, ZSTD_c_contentSizeFlag } = constants;
const MAGIC = Buffer.from("28b52ffd", "hex");
const SMALL = Buffer.from("small");
const LARGE = Buffer.concat([Buffer.alloc(300_000), randomBytes(300_000), Buffer.alloc(300_000, "word ")]);

/** Packs without a size in the header, as when the content arrives in pieces. */
async function streamed(content: Buffer): Promise<Buffer> {
  const packing = createZstdCompress();
  packing.write(content.subarray(0, content.length / 2));
  packing.end(content.subarray(content.length / 2));
  return Buffer.concat(await packing.toArray());
}

const FRAMES: readonly (readonly [string, Buffer])[] = [
  ["of nothing", zstdCompressSync(Buffer.alloc(0))],
  ["that is small", zstdCompressSync(SMALL)],
  ["of many blocks, compressed, stored and repeated", zstdCompressSync(LARGE)],
  ["with a checksum", zstdCompressSync(LARGE, { params: { [ZSTD_c_checksumFlag]: 1 } })],
  ["without its size", zstdCompressSync(SMALL, { params: { [ZSTD_c_contentSizeFlag]: 0 } })],
  ["that was streamed", await streamed(LARGE)],
];

function followed(bytes: Buffer, pieceBytes: number): ZstdFrames {
  const frame = new ZstdFrames();
  for (let at = 0; at < bytes.length; at += pieceBytes) frame.follow(bytes.subarray(at, at + pieceBytes));
  return frame;
}

describe("the end of a zstd frame", () => {
  for (const [what, bytes] of FRAMES) {
    test(`is found in one ${what}, in pieces of any size`, () => {
      for (const size of [1, 2, 3, 7, 64 * 1024, bytes.length]) {
        followed(bytes, size).end();
        assert.throws(() => followed(Buffer.concat([bytes, SMALL]), size), /data after its end/);
        assert.throws(() => followed(Buffer.concat([bytes, Buffer.alloc(1)]), size).end(), /is truncated/);
        followed(Buffer.concat([bytes, bytes]), size).end();
      }
    });

    test(`is missing in one ${what}, wherever it is cut off`, () => {
      const whole = new Set([bytes.lastIndexOf(MAGIC, -1)].filter((at) => at > 0));
      for (let cut = 0; cut < bytes.length; cut += cut < 64 ? 1 : 997)
        if (!whole.has(cut))
          assert.throws(() => followed(bytes.subarray(0, cut), 1024).end(), /is truncated/);
      assert.throws(() => followed(bytes.subarray(0, -1), 1024).end(), /is truncated/);
    });
  }

  test("is not searched for in data that is not a frame", () => {
    assert.throws(() => followed(Buffer.from("something else"), 4), /not compressed with zstd/);
  });
});
