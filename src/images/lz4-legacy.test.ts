import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { unpackLz4Legacy } from "#images/lz4-legacy.ts";

const TEXT = `abcabcabcabcabc${"x".repeat(300)}${"The quick brown fox jumps over the lazy dog. ".repeat(9)}end`;
/** TEXT packed by the reference implementation, `lz4 -l -9`: with long lengths, and matches that repeat themselves. */
const PACKED = Buffer.from(
  "AiFMGEUAAAA4YWJjAwAfeAEA/xn/HlRoZSBxdWljayBicm93biBmb3gganVtcHMgb3ZlciB0aGUgbGF6eSBkb2cuIC0A/1RQLiBlbmQ=",
  "base64",
);

function unpackAll(frame: Uint8Array): string {
  let text = "";
  for (const block of unpackLz4Legacy(frame)) text += Buffer.from(block).toString("latin1");
  return text;
}

/** Makes a frame with one block. */
function frameOf(...block: number[]): Buffer {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(block.length);
  return Buffer.concat([PACKED.subarray(0, 4), size, Buffer.from(block)]);
}

describe("LZ4's legacy frame", () => {
  test("frames of the reference implementation are unpacked, also several blocks and frames", () => {
    assert.equal(unpackAll(PACKED), TEXT);
    assert.equal(unpackAll(Buffer.concat([PACKED, PACKED.subarray(4)])), TEXT + TEXT);
    assert.equal(unpackAll(Buffer.concat([PACKED, PACKED])), TEXT + TEXT);
  });

  test("a match that does not overlap, and one that does, are copied alike", () => {
    const literals = Array.from({ length: 20 }, (_, index) => 97 + index);
    const alphabet = String.fromCharCode(...literals);
    const apart = frameOf(0xff, 5, ...literals, 20, 0, 1, 0x10, 33);
    assert.equal(unpackAll(apart), `${alphabet}${alphabet}!`);
    const overlapping = frameOf(0xff, 5, ...literals, 19, 0, 1, 0x10, 33);
    assert.equal(unpackAll(overlapping), `${alphabet}${alphabet.slice(1)}b!`);
  });

  const DAMAGED: Readonly<Record<string, Uint8Array>> = {
    "nothing at all": Buffer.alloc(0),
    "another magic number": Buffer.from("28b52ffd00000000", "hex"),
    "a frame that ends in a block's size": PACKED.subarray(0, 6),
    "a frame that ends in a block": PACKED.subarray(0, -1),
    "an empty block": Buffer.concat([PACKED.subarray(0, 4), Buffer.alloc(4)]),
    "literals that are not there": frameOf(0x50, 1, 2),
    "a length that does not end": frameOf(0xf0, 255),
    "a match without its offset": frameOf(0x10, 65, 1),
    "a match with offset 0": frameOf(0x10, 65, 0, 0, 0x10, 65),
    "a match before the begin": frameOf(0x10, 65, 2, 0, 0x10, 65),
    "a match and then nothing": frameOf(0x10, 65, 1, 0),
    "more than a block may hold": frameOf(
      0x1f,
      65,
      1,
      0,
      ...Array.from({ length: 33_000 }, () => 255),
      0,
      0x10,
      65,
    ),
  };
  for (const [what, bytes] of Object.entries(DAMAGED)) {
    test(`${what} is refused`, () => assert.throws(() => unpackAll(bytes), /LZ4/));
  }

  test("a frame with any byte changed is refused or unpacked to something, and never read outside", () => {
    for (let at = 0; at < PACKED.length; at++) {
      for (const value of [0, 1, 15, 127, 240, 255]) {
        const changed = Buffer.from(PACKED);
        changed[at] = value;
        try {
          assert.equal(unpackAll(changed).includes("undefined"), false);
        } catch (error) {
          assert.match((error as Error).message, /LZ4/);
        }
      }
    }
  });
});
