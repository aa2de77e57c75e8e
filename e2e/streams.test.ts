/** Hundreds of megabytes each way, in bounded memory of hearthd; a GiB with HEARTH_E2E=all. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { before, test } from "node:test";
import { Bed } from "./bed.ts";

const bed = new Bed();
/** Three times what hearthd may need for it. An emulated guest passes on some 10 MiB/s. */
const BYTES = (process.env["HEARTH_E2E"] === "all" ? 1024 : 384) * 1024 ** 2;
const CHUNK = Buffer.alloc(1024 * 1024, "hearth\n");
/** The memory that streams may cost hearthd, over what it needs anyway. */
const MEMORY_MAX_KB = 128 * 1024;

before(async () => {
  await bed.ok(["image", "build", "debian"]);
  await bed.ok(["create", "--name", "box", "debian"]);
});

test("a long stdin reaches the command, and hearthd's memory stays bounded", async () => {
  const memory = new PeakMemory();
  const command = bed.start(["exec", "box", "--", "wc", "-c"]);
  const output = textOf(command.stdout);
  await pipeline(Readable.from(chunks(BYTES)), command.stdin);
  assert.equal(await output, `${BYTES}\n`);
  memory.assertBounded();
});

test("a long stdout waits for a slow reader in the guest, and then arrives whole", async () => {
  const memory = new PeakMemory();
  const command = bed.start(["exec", "box", "--", "sh", "-c", `exec head -c ${BYTES} /dev/zero`]);
  const wrote = async (): Promise<number> =>
    Number((await bed.sh("box", "sed -n 's/^wchar: //p' /proc/$(pidof head || echo 0)/io || echo 0")).trim());
  // Nobody reads: after a while the command cannot write any more.
  let [last, now] = [-1, 0];
  await bed.until(async () => {
    [last, now] = [now, await wrote()];
    return now > 0 && now === last;
  });
  assert.ok(now < 64 * 1024 ** 2, `${now} bytes left the command that nobody has read`);
  let bytes = 0;
  for await (const chunk of command.stdout as AsyncIterable<Buffer>) bytes += chunk.length;
  assert.equal(bytes, BYTES);
  memory.assertBounded();
});

function* chunks(bytes: number): Generator<Buffer> {
  for (let sent = 0; sent < bytes; sent += CHUNK.length) yield CHUNK;
}

async function textOf(stream: Readable): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of stream as AsyncIterable<Buffer>) parts.push(part);
  return Buffer.concat(parts).toString();
}

/** hearthd's highest resident memory from now on, as the kernel keeps it. */
class PeakMemory {
  readonly #pid: number;
  readonly #beforeKb: number;

  constructor() {
    const daemon = bed.daemon();
    assert.ok(daemon);
    this.#pid = daemon.pid;
    writeFileSync(`/proc/${this.#pid}/clear_refs`, "5");
    this.#beforeKb = this.#peakKb();
  }

  assertBounded(): void {
    const grownKb = this.#peakKb() - this.#beforeKb;
    assert.ok(grownKb < MEMORY_MAX_KB, `hearthd took ${grownKb} kB more`);
  }

  #peakKb(): number {
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${this.#pid}/status`, "utf8"))?.[1]);
  }
}
