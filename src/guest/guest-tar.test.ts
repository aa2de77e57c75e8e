/** Tests copying files into and out of a guest with the real agent on this machine. */
import assert from "node:assert/strict";
import { lstatSync, mkdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { after, before, test } from "node:test";
import { extract, pack, type Header } from "tar-stream";
import type { HearthError } from "#base/error.ts";
import { MIB } from "#base/sizes.ts";
import type { AgentClient } from "#guest/agent-client.ts";
import { startRealAgent, type RealAgent } from "#testing/real-agent.ts";

let real: RealAgent;
let agent: AgentClient;
before(async () => {
  real = await startRealAgent();
  agent = await real.connect();
});
after(() => real[Symbol.asyncDispose]());

const soon = (): AbortSignal => AbortSignal.timeout(120_000);

type Entry = Partial<Header> & { readonly name: string; readonly content?: string | Buffer };

function tarOf(entries: readonly Entry[]): AsyncIterable<Uint8Array> {
  const stream = pack();
  for (const { content, ...header } of entries) stream.entry(header, content ?? "");
  stream.finalize();
  return Readable.from(stream) as AsyncIterable<Uint8Array>;
}

async function entriesOf(path: string): Promise<Map<string, { header: Header; content: Buffer }>> {
  const entries = new Map<string, { header: Header; content: Buffer }>();
  const reader = extract();
  reader.on("entry", (header, body, next) => {
    const chunks: Buffer[] = [];
    body.on("data", (chunk) => chunks.push(chunk as Buffer));
    body.on("end", () => {
      entries.set(header.name.replace(/\/$/, ""), { header, content: Buffer.concat(chunks) });
      next();
    });
  });
  await pipeline(Readable.from(agent.readTar(path, soon())), reader);
  return entries;
}

async function* endless(): AsyncGenerator<Uint8Array> {
  yield* tarOf([{ name: "../escaped", content: Buffer.alloc(2 * MIB) }]);
  for (;;) yield Buffer.alloc(65_536);
}

const notFound = (error: HearthError): boolean => error.code === "file.not_found";

test("files, directories and links survive a copy in both directions", async () => {
  const path = join(real.dir, "in");
  mkdirSync(path);
  const big = Buffer.alloc(3 * MIB + 17, "hearth");
  const written = await agent.writeTar(
    { path, createParents: false },
    tarOf([
      { name: "d", type: "directory", mode: 0o750 },
      { name: "d/big", mode: 0o640, content: big },
      { name: "d/empty", mode: 0o600 },
      { name: "d/ünï 😀", mode: 0o755, content: "#!/bin/sh\n" },
      { name: "d/link", type: "symlink", linkname: "big" },
    ]),
    soon(),
  );
  assert.equal(written.entries, 5);
  assert.ok(readFileSync(join(path, "d/big")).equals(big));
  assert.equal(lstatSync(join(path, "d/ünï 😀")).mode & 0o777, 0o755);
  assert.equal(readlinkSync(join(path, "d/link")), "big");

  const entries = await entriesOf(join(path, "d"));
  const names = [...entries.keys()].map((name) => name.replace(/^d\/?/, "")).toSorted();
  assert.deepEqual(
    names.filter((name) => name !== ""),
    ["big", "empty", "link", "ünï 😀"],
  );
  assert.ok(entries.get("d/big")?.content.equals(big));
});

test("an entry that would leave the directory is refused, by name or through a link", async () => {
  const path = join(real.dir, "jail");
  mkdirSync(path);
  symlinkSync(real.dir, join(path, "out"));
  for (const name of ["../escaped", "/escaped", "out/escaped", "a/../../escaped"]) {
    const call = agent.writeTar({ path, createParents: true }, tarOf([{ name, content: "x" }]), soon());
    await assert.rejects(call, (error: HearthError) => error.code === "file.refused", name);
  }
});

test("a refusal ends an endless stream", async () => {
  const path = join(real.dir, "jail2");
  mkdirSync(path);
  const call = agent.writeTar({ path, createParents: false }, endless(), soon());
  await assert.rejects(call, (error: HearthError) => error.code === "file.refused");
});

test("a missing path is not found, in both directions", async () => {
  await assert.rejects(Array.fromAsync(agent.readTar("/no/such/file", soon())), notFound);
  const call = agent.writeTar(
    { path: "/no/such/directory", createParents: false },
    tarOf([{ name: "a", content: "x" }]),
    soon(),
  );
  await assert.rejects(call, notFound);
});

test("a file is read as one entry, and a reader may stop in the middle", async () => {
  const file = join(real.dir, "one.bin");
  writeFileSync(file, Buffer.alloc(20 * MIB, 1));
  const entries = await entriesOf(file);
  assert.deepEqual([...entries.keys()], ["one.bin"]);
  for await (const chunk of agent.readTar(file, soon())) {
    assert.ok(chunk.length > 0);
    break;
  }
  assert.equal((await agent.info(soon())).execs, 0);
});
