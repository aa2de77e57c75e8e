import assert from "node:assert/strict";
import { test } from "node:test";
import { Fuzz } from "#testing/fuzz.ts";
import { ZeroPages } from "#drivers/qemu/zero-pages.ts";

const PAGE = 4096;
const PAGES = 64;
const SIZE = PAGES * PAGE;
const [ZERO, MEM_SIZE, DATA, END, SAME] = [0x02, 0x04, 0x08, 0x10, 0x20];

/** The contents of a page as QEMU sends it. */
type Sent = { readonly block: string; readonly page: number; readonly fill: number; readonly whole: boolean };

/** Writes a stream as QEMU does: the first record of a section names its block, and so does one of another block. */
function streamOf(sections: readonly (readonly Sent[])[], blocks: Readonly<Record<string, number>>): Buffer {
  const parts: Buffer[] = [Buffer.from("QEVM\0\0\0\x03\x07\0\0\0\x07microvm", "latin1")];
  const total = Object.values(blocks).reduce((sum, bytes) => sum + bytes, 0);
  parts.push(section(1), Buffer.from("\x03ram\0\0\0\0\0\0\0\x04", "latin1"), number(total, MEM_SIZE));
  for (const [name, bytes] of Object.entries(blocks)) parts.push(named(name), number(bytes));
  parts.push(number(0, END), section(0x7e));
  for (const [index, pages] of sections.entries()) {
    parts.push(section(index === sections.length - 1 ? 3 : 2));
    let last = "";
    for (const { block, page, fill, whole } of pages) {
      const same = block === last ? SAME : 0;
      parts.push(number(page * PAGE, (whole ? DATA : ZERO) | same));
      if (same === 0) parts.push(named(block));
      parts.push(Buffer.alloc(whole ? PAGE : 1, fill));
      last = block;
    }
    parts.push(number(0, END), section(0x7e));
  }
  return Buffer.concat([...parts, Buffer.from("\x04\0\0\0\x01\x08kvmclock and other devices", "latin1")]);
}

/** Loads a stream as a QEMU with new memory; returns the memory and the number of records. */
function load(stream: Buffer, blocks: Readonly<Record<string, number>>) {
  const memory = Object.fromEntries(
    Object.entries(blocks).map(([name, bytes]) => [name, Buffer.alloc(bytes, name === "mem" ? 0 : 0xee)]),
  );
  let at = stream.indexOf("\x03ram", 0, "latin1") + 12 + 8;
  for (const name of Object.keys(blocks)) at += 1 + name.length + 8;
  at += 8 + 5;
  let records = 0;
  let block = "";
  while (stream[at] === 2 || stream[at] === 3) {
    at += 5;
    for (;;) {
      const word = Number(stream.readBigUInt64BE(at));
      const flags = word % PAGE;
      at += 8;
      if (flags === END) break;
      if ((flags & SAME) === 0) {
        const length = stream[at] ?? 0;
        block = stream.toString("latin1", at + 1, at + 1 + length);
        at += 1 + length;
      }
      const bytes = (flags & DATA) !== 0 ? PAGE : 1;
      const content = bytes === PAGE ? stream.subarray(at, at + PAGE) : Buffer.alloc(PAGE, stream[at]);
      memory[block]?.set(content, word - flags);
      at += bytes;
      records += 1;
    }
    at += 5;
  }
  return { memory, records, rest: stream.subarray(at).toString("latin1") };
}

function filtered(stream: Buffer, cuts: () => number, filter = new ZeroPages("mem", SIZE)) {
  const kept: Buffer[] = [];
  for (let at = 0; at < stream.length;) {
    const bytes = Math.max(1, cuts());
    kept.push(filter.filter(stream.subarray(at, at + bytes)));
    at += bytes;
  }
  return { kept: Buffer.concat([...kept, filter.end()]), droppedPages: filter.droppedPages };
}

const number = (value: number, flags = 0): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value + flags));
  return bytes;
};
const named = (name: string): Buffer => Buffer.concat([Buffer.of(name.length), Buffer.from(name)]);
const section = (type: number): Buffer => Buffer.of(type, 0, 0, 0, 2);

test("memory that is loaded without its pages of zeros is equal, however the stream is split", (t) => {
  const fuzz = new Fuzz(t);
  const blocks = { mem: SIZE, "pc.bios": 8 * PAGE };
  for (let time = 0; time < 200; time++) {
    const pages = (): Sent[] =>
      Array.from({ length: fuzz.int(150) }, () => {
        const block = fuzz.oneIn(8) ? "pc.bios" : "mem";
        const whole = fuzz.oneIn(3);
        const fill = fuzz.oneIn(4) ? fuzz.int(256) : 0;
        return { block, page: fuzz.int(block === "mem" ? PAGES : 8), fill, whole };
      });
    const stream = streamOf([pages(), pages(), pages()], blocks);
    const { kept, droppedPages } = filtered(stream, () => fuzz.int(time % 2 === 0 ? 40 : 9_000));
    const [all, less] = [load(stream, blocks), load(kept, blocks)];
    for (const [name, memory] of Object.entries(all.memory))
      assert.ok(less.memory[name]?.equals(memory), name);
    assert.equal(less.records, all.records - droppedPages);
    assert.equal(less.rest, all.rest);
  }
});

test("the filtered stream of a guest that uses little memory is about as large as that", () => {
  const used = [3, 4, 60].map((page) => ({ block: "mem", page, fill: 7, whole: true }));
  const zeros = Array.from({ length: PAGES }, (_, page) => ({ block: "mem", page, fill: 0, whole: false }));
  const stream = streamOf([[...zeros.filter(({ page }) => ![3, 4, 60].includes(page)), ...used]], {
    mem: SIZE,
  });
  const { droppedPages } = filtered(stream, () => 65_536);
  assert.equal(droppedPages, PAGES - used.length - 1, "all but the one that names the block");
});

test("a page that had other bytes before it was zeros arrives as zeros", () => {
  const at = (fill: number, whole: boolean): Sent => ({ block: "mem", page: 5, fill, whole });
  const other: Sent = { block: "mem", page: 1, fill: 1, whole: true };
  const stream = streamOf(
    [
      [other, at(9, true)],
      [other, at(0, false)],
    ],
    { mem: SIZE },
  );
  const { kept, droppedPages } = filtered(stream, () => 1_000);
  assert.equal(droppedPages, 0);
  assert.ok(kept.equals(stream));
});

test("a block with another name or size than the memory is kept whole", () => {
  const zeros = (block: string): Sent[] =>
    Array.from({ length: 8 }, (_, page) => ({ block, page, fill: 0, whole: false }));
  const others: readonly Record<string, number>[] = [{ "pc.bios": 8 * PAGE }, { mem: 2 * SIZE }];
  for (const blocks of others) {
    const stream = streamOf([zeros(Object.keys(blocks)[0] ?? "")], blocks);
    assert.ok(filtered(stream, () => 77).kept.equals(stream));
  }
});

test("anything but a stream of QEMU's is kept unchanged", (t) => {
  const fuzz = new Fuzz(t);
  const good = streamOf([[{ block: "mem", page: 1, fill: 0, whole: false }]], { mem: SIZE });
  for (let time = 0; time < 2_000; time++) {
    const stream = Buffer.from(good);
    // Changes are made before the records: in a record, a change could turn another page into one of zeros.
    for (let change = 0; change < 3; change++) stream[fuzz.int(60)] = fuzz.int(256);
    const cut = stream.subarray(0, fuzz.int(stream.length + 1));
    assert.ok(filtered(cut, () => 1 + fuzz.int(30)).kept.equals(cut));
    const noise = fuzz.bytes(300);
    assert.ok(filtered(noise, () => 1 + fuzz.int(30)).kept.equals(noise));
  }
});
