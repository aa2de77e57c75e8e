/** Imports archives of hostile origin. */
import { createHash } from "node:crypto";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { zstdDecompressSync } from "node:zlib";
import { MIB } from "#base/sizes.ts";
import { importSnapshot } from "#daemon/snapshot/snapshot-archive.ts";
import {
  archiveOf,
  exported,
  goodMembers,
  imported,
  makeHost,
  makeSnapshot,
  member,
  membersOf,
  OTHER,
  plain,
  refused,
  SMALL,
  withManifest,
} from "#testing/snapshot-archives.ts";
import type { Manifest, Member } from "#testing/snapshot-archives.ts";

function unpack(archive: Buffer): Buffer | undefined {
  try {
    return zstdDecompressSync(archive);
  } catch {
    return undefined; // It cannot be.
  }
}

describe("an archive that is damaged", () => {
  test("is refused wherever it was cut off, with the part at which it ends", async (t) => {
    const [here, there] = [makeHost(t), makeHost(t)];
    const archive = await exported(here, await makeSnapshot(here, SMALL));
    for (let bytes = 0; bytes < archive.length; bytes += Math.ceil(archive.length / 40))
      await refused(there, imported(there, archive.subarray(0, bytes)), "archive.corrupt", /damaged at/);
    // All of the content without the last bytes: a checksum, and an empty frame.
    const last = archive.length - archive.lastIndexOf(Buffer.from("28b52ffd", "hex"));
    for (let bytes = 1; bytes < last + 8; bytes += bytes === last - 1 ? 2 : 1)
      await refused(there, imported(there, archive.subarray(0, -bytes)), "archive.corrupt", /damaged at/);
    const members = await membersOf(archive);
    for (const [index, name] of ["manifest.json", "memory", "state", "layer-0.raw"].entries()) {
      const cut = await archiveOf(members.slice(0, index));
      await refused(
        there,
        imported(there, cut),
        "archive.corrupt",
        new RegExp(`at ${name}.*ends before this file`),
      );
    }
  });

  test("is refused for what comes behind its end", async (t) => {
    const [here, there] = [makeHost(t), makeHost(t)];
    const archive = await exported(here, await makeSnapshot(here, SMALL));
    for (const bytes of [1, 4096]) {
      const longer = Buffer.concat([archive, Buffer.alloc(bytes)]);
      await refused(there, imported(there, longer), "archive.corrupt", /damaged at/);
    }
  });

  test("is refused for one wrong byte, wherever it is", async (t) => {
    const [here, there] = [makeHost(t), makeHost(t)];
    const archive = await exported(here, await makeSnapshot(here, SMALL));
    const unpacked = zstdDecompressSync(archive);
    for (let index = 0; index < archive.length; index += Math.ceil(archive.length / 100)) {
      const wrong = Buffer.from(archive);
      wrong[index] = (wrong[index] ?? 0) ^ 0x10;
      // Zeros can be copied from here or from there: some bytes make no difference.
      if (unpack(wrong)?.equals(unpacked)) continue;
      await refused(there, imported(there, wrong), "archive.corrupt", /damaged at/);
    }
  });

  test("is refused for content that is not what the manifest says, by name", async (t) => {
    const members = await goodMembers(t);
    const content = Buffer.from(SMALL.state).fill("X", 0, 1);
    const spoiled = members.with(2, plain("state", content));
    const host = makeHost(t);
    await refused(host, imported(host, await archiveOf(spoiled)), "archive.corrupt", /at state.*sha256/);
  });

  test("is refused without waiting for the rest of it", async (t) => {
    const host = makeHost(t);
    const wrong = await archiveOf([plain("manifest.json", Buffer.from("{}"))]);
    async function* stuck(): AsyncGenerator<Uint8Array> {
      yield wrong;
      await new Promise<never>(() => {});
    }
    const work = importSnapshot(host, stuck(), OTHER, { onProgress() {}, signal: t.signal });
    await refused(host, work, "archive.corrupt", /manifest.json.*not the manifest/);
  });

  test("is refused when its sender goes away", async (t) => {
    const [here, there] = [makeHost(t), makeHost(t)];
    const archive = await exported(here, await makeSnapshot(here, SMALL));
    async function* broken(): AsyncGenerator<Uint8Array> {
      yield archive.subarray(0, archive.length - 50);
      throw Object.assign(new Error("read ECONNRESET"), { syscall: "read", code: "ECONNRESET" });
    }
    const work = importSnapshot(there, broken(), OTHER, { onProgress() {}, signal: t.signal });
    await refused(there, work, "archive.corrupt", /ended too early/);
  });
});

describe("an archive of hostile origin", () => {
  async function refusedMembers(t: TestContext, members: readonly Member[], words: RegExp): Promise<void> {
    const host = makeHost(t);
    await refused(host, imported(host, await archiveOf(members)), "archive.corrupt", words);
  }

  test("has no member that the manifest does not name", async (t) => {
    const members = await goodMembers(t);
    const extra = plain("empty.qcow2", Buffer.from("x"));
    await refusedMembers(t, [...members, extra], /its end.*"empty.qcow2"/);
    await refusedMembers(t, members.toSpliced(1, 0, extra), /at memory.*"empty.qcow2" was found instead/);
    await refusedMembers(t, [...members, member(members, 3)], /its end.*"layer-0.raw"/);
  });

  test("has no links, directories or devices", async (t) => {
    const members = await goodMembers(t);
    for (const type of ["symlink", "link", "directory", "fifo", "character-device"] as const) {
      const header = { name: "state", type, linkname: "/etc/passwd" };
      await refusedMembers(
        t,
        members.with(2, { header, content: Buffer.alloc(0) }),
        /at state.*not a file|in its/,
      );
    }
    const header = { name: "manifest.json", type: "symlink", linkname: "/etc/passwd" } as const;
    await refusedMembers(t, [{ header, content: Buffer.alloc(0) }], /manifest.json.*symlink/);
  });

  test("has no name that leads elsewhere", async (t) => {
    const members = await goodMembers(t);
    for (const name of ["../state", "/etc/state", "./state", "a/../state"])
      await refusedMembers(t, members.with(2, plain(name, SMALL.state)), /at state.*was found instead/);
    for (const name of ["../memory", "layer-1.raw", "layer-0.qcow2", "layer-00.raw", "empty.qcow2"]) {
      const host = makeHost(t);
      const archive = await withManifest(t, ({ parts }) => {
        const part = parts[0];
        if (part) part.name = name;
      });
      await refused(host, imported(host, archive), "archive.corrupt", /manifest.json.*parts/);
    }
  });

  test("has a manifest that is small", async (t) => {
    const text = `{"format":"hearth-snapshot","fill":"${"x".repeat(5 * MIB)}"}`;
    await refusedMembers(t, [plain("manifest.json", Buffer.from(text))], /manifest.json.*5242918 bytes/);
  });

  test("has parts of the size that the manifest says, and none beyond what Hearth takes", async (t) => {
    const members = await goodMembers(t);
    for (const content of [SMALL.state.subarray(1), Buffer.concat([SMALL.state, Buffer.alloc(1)])])
      await refusedMembers(t, members.with(2, plain("state", content)), /at state.*bytes, and not 10/);
    for (const sizeBytes of [0, -1, 1.5, 2 ** 42]) {
      const host = makeHost(t);
      const archive = await withManifest(t, ({ parts }) => {
        for (const part of parts) part.sizeBytes = sizeBytes;
      });
      await refused(host, imported(host, archive), "archive.corrupt", /manifest.json.*parts/);
    }
  });

  test("has maps of holes that are in order, and fit", async (t) => {
    const members = await goodMembers(t);
    const state = member(members, 2);
    const map = (text: string, data = ""): Buffer =>
      Buffer.concat([Buffer.from(text), Buffer.alloc(512 - text.length), Buffer.from(data)]);
    const spoiled: readonly (readonly [content: Buffer, words: RegExp])[] = [
      [map("1\n0\n11\n", "how it was!"), /not in order/],
      [map("2\n5\n5\n0\n5\n", "how it was"), /not in order/],
      [map("1\n0\n9\n", "how it was"), /does not match/],
      [map("1\n0\n9999999999999999\n", "how it was"), /not made of numbers/],
      [map("1\n-1\n10\n", "how it was"), /not made of numbers/],
      [map("2000000\n0\n10\n", "how it was"), /2000000 parts/],
      [Buffer.from("1\n0\n"), /ends too early/],
    ];
    for (const [content, words] of spoiled)
      await refusedMembers(t, members.with(2, { header: state.header, content }), words);
  });

  test("has a manifest in which every field is known and within the limits", async (t) => {
    const changes: readonly ((manifest: Manifest) => void)[] = [
      ({ snapshot }) => (snapshot["kind"] = "warm"),
      ({ snapshot }) => (snapshot["name"] = "../x"),
      ({ snapshot }) => (snapshot["imageDigest"] = "sha256:../../x"),
      ({ snapshot }) => (snapshot["shape"] = { driver: "../x", vmm: "", vm: {} }),
      ({ snapshot }) => (snapshot["shape"] = { driver: "fake", vmm: "", vm: { 1: "x" } }),
      ({ snapshot }) => delete snapshot["shape"],
      ({ snapshot: { spec } }) => (spec["cpus"] = 33),
      ({ snapshot: { spec } }) => (spec["memoryBytes"] = 1),
      ({ snapshot: { spec } }) => (spec["volumes"] = [{ name: "data", path: "/data", readOnly: false }]),
      ({ snapshot: { spec } }) => (spec["firmware"] = "/etc/shadow"),
      ({ snapshot: { spec } }) => (spec["bootArgs"] = ["a b"]),
      ({ snapshot: { spec } }) => (spec["bootArgs"] = Array.from({ length: 64 }, () => "x".repeat(64))),
      ...["init=/bin/sh", '"init=/bin/sh"', "rdinit=/x", "hearth.root=none", "root=/dev/vdb"].map(
        (arg) =>
          ({ snapshot: { spec } }: Manifest) =>
            (spec["bootArgs"] = ["quiet", arg]),
      ),
      ({ snapshot: { spec } }) => (spec["network"] = "host"),
      ({ snapshot: { spec } }) => (spec["init"] = "/bin/sh"),
      ({ snapshot: { spec } }) => (spec["nested"] = "yes"),
      ({ snapshot: { spec } }) => (spec["diskLimit"] = { opsPerS: -1 }),
      ({ snapshot: { spec } }) => (spec["kernel"] = "a\nb"),
      ({ snapshot: { spec } }) => (spec["env"] = { "A=B": "x" }),
      ({ snapshot: { spec } }) => delete spec["network"],
      (manifest) => (manifest.parts = manifest.parts.toReversed()),
      ({ parts }) => parts.pop(),
    ];
    for (const change of changes) {
      const host = makeHost(t);
      const archive = await withManifest(t, change);
      await refused(host, imported(host, archive), "archive.corrupt", /at manifest.json/);
    }
  });

  test("has no layer that reaches for a file of this host", async (t) => {
    const members = await goodMembers(t);
    const layer = Buffer.alloc(1024);
    layer.writeUInt32BE(0x514649fb, 0);
    layer.writeUInt32BE(3, 4);
    layer.writeBigUInt64BE(512n, 8);
    layer.writeUInt32BE(11, 16);
    layer.writeUInt32BE(104, 100);
    layer.write("/etc/shadow", 512);
    const first = member(members, 0);
    const manifest = JSON.parse(first.content.toString()) as Manifest;
    const sha256 = createHash("sha256").update(layer).digest("hex");
    manifest.parts.push({ name: "layer-1.qcow2", sizeBytes: layer.length, sha256 });
    const text = Buffer.from(JSON.stringify(manifest));
    const made = [plain("manifest.json", text), ...members.slice(1), plain("layer-1.qcow2", layer)];
    await refusedMembers(t, made, /at layer-1.qcow2.*backing file is "\/etc\/shadow"/);
  });
});
