import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { GIB, MIB } from "#base/sizes.ts";
import { findProgram } from "#host/find-program.ts";
import { runOrThrow } from "#host/run.ts";
import { proveLayer } from "#storage/qcow2-header.ts";
import type { LayerRule } from "#storage/qcow2-header.ts";

const RULE: LayerRule = { below: "layer-0.raw", belowFormat: "raw", maxBytes: 8 * GIB };

function dir(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "hearth-qcow2-"));
  t.after(() => rmSync(path, { recursive: true }));
  return path;
}

/** A header as QEMU writes it, without the names of features. */
function header(
  below = "layer-0.raw",
  extensions: readonly (readonly [number, string])[] = [[0xe2792aca, "raw"]],
) {
  const head = Buffer.alloc(4096);
  head.writeUInt32BE(0x514649fb, 0);
  head.writeUInt32BE(3, 4);
  head.writeUInt32BE(16, 20);
  head.writeBigUInt64BE(BigInt(GIB), 24);
  head.writeUInt32BE(GIB / (512 * MIB), 36);
  head.writeBigUInt64BE(65_536n, 40);
  head.writeUInt32BE(112, 100);
  let at = 112;
  for (const [type, text] of extensions) {
    head.writeUInt32BE(type, at);
    head.writeUInt32BE(text.length, at + 4);
    head.write(text, at + 8);
    at += 8 + Math.ceil(text.length / 8) * 8;
  }
  head.writeBigUInt64BE(BigInt(at + 8), 8);
  head.writeUInt32BE(below.length, 16);
  head.write(below, at + 8);
  return head;
}

test("a layer that QEMU has made, written and grown is accepted", async (t) => {
  if (findProgram("qemu-img") === undefined) return t.skip("no qemu-img");
  const cwd = dir(t);
  const qemuImg = (...args: string[]): Promise<string> =>
    runOrThrow("qemu-img", args, { cwd, timeoutMs: 60_000, signal: t.signal });
  await qemuImg("create", "-q", "-f", "raw", "layer-0.raw", "64M");
  await qemuImg("create", "-q", "-f", "qcow2", "-b", "layer-0.raw", "-F", "raw", "layer-1.qcow2");
  await qemuImg("create", "-q", "-f", "qcow2", "-b", "layer-1.qcow2", "-F", "qcow2", "layer-2.qcow2");
  await qemuImg("resize", "-q", "-f", "qcow2", "layer-2.qcow2", "128M");
  await qemuImg("bench", "-w", "-c", "10", "-f", "qcow2", "layer-2.qcow2");
  await proveLayer(join(cwd, "layer-1.qcow2"), RULE);
  const above = { ...RULE, below: "layer-1.qcow2", belowFormat: "qcow2" } as const;
  await proveLayer(join(cwd, "layer-2.qcow2"), above);
});

test("a layer that refers to anything but the layer below is refused", async (t) => {
  const path = join(dir(t), "layer-1.qcow2");
  const refused = async (content: Buffer, reason: RegExp): Promise<void> => {
    writeFileSync(path, content);
    await assert.rejects(proveLayer(path, RULE), reason);
  };
  const changed = (change: (head: Buffer) => unknown): Buffer => {
    const head = header();
    change(head);
    return head;
  };
  writeFileSync(path, header());
  await proveLayer(path, RULE);
  assert.equal(readFileSync(path).length, 4096);
  for (const below of ["/etc/shadow", "../layer-0.raw", "json:{}", "nbd://host", "", "layer-0.raw\0"])
    await refused(header(below), /its backing file is/);
  await refused(header("layer-0.raw", []), /the format of its backing file/);
  await refused(header("layer-0.raw", [[0xe2792aca, "qcow2"]]), /the format of its backing file/);
  await refused(
    header("layer-0.raw", [
      [0xe2792aca, "raw"],
      [0xe2792aca, "vmdk"],
    ]),
    /header extension of type 0xe2792aca/,
  );
  await refused(header("layer-0.raw", [[0x44415441, "/etc/shadow"]]), /header extension of type 0x44415441/);
  await refused(
    changed((head) => head.writeBigUInt64BE(4n, 72)),
    /features/,
  );
  await refused(
    changed((head) => head.writeUInt32BE(1, 32)),
    /encrypted/,
  );
  await refused(
    changed((head) => head.writeUInt32BE(1, 60)),
    /snapshots/,
  );
  await refused(
    changed((head) => head.writeUInt32BE(2, 4)),
    /version 3/,
  );
  await refused(
    changed((head) => head.writeBigUInt64BE(BigInt(9 * GIB), 24)),
    /too large/,
  );
  await refused(
    changed((head) => head.writeBigUInt64BE(2n ** 63n, 8)),
    /is incomplete/,
  );
  await refused(
    changed((head) => head.writeUInt32BE(2 ** 32 - 1, 116)),
    /is incomplete/,
  );
  await refused(
    changed((head) => head.writeUInt32BE(2 ** 32 - 1, 100)),
    /is incomplete/,
  );
  await refused(Buffer.from("QFI\xfb"), /not a qcow2/);
});
