/** A snapshot in one file: written by one Hearth, taken by another one that has the image. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import type { Snapshot } from "#api/wire.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";
import { runCli } from "./run-cli.ts";

const here = new Bed();
const there = new Bed();
const archive = join(here.dir, "saved.tar.zst");
const NOTES = "cat /root/note /run/note; sha256sum --quiet -c /root/sum";

async function shown(bed: Bed, name: string): Promise<Snapshot> {
  return JSON.parse(await bed.ok(["snapshot", "show", "--json", name])) as Snapshot;
}

before(async () => {
  await here.ok(["create", "--name", "web", ...SMALL, "debian"]);
  await here.sh("web", "echo on disk > /root/note; echo in memory > /run/note");
  await here.sh("web", "head -c 20M /dev/urandom > /root/much; sha256sum /root/much > /root/sum; sync");
  await here.ok(["snapshot", "create", "web", "saved"]);
});

describe("snapshot export and import", { concurrency: false }, () => {
  test("a VM resumes in another Hearth where it was saved in this one, with the same bytes", async () => {
    await here.ok(["snapshot", "export", "saved", archive]);
    assert.equal(await there.ok(["snapshot", "import", archive]), "saved\n");
    const [one, other] = [await shown(here, "saved"), await shown(there, "saved")];
    assert.deepEqual(other.parts, one.parts);
    assert.deepEqual([other.vm, other.image, other.vmm], [one.vm, one.image, one.vmm]);
    await there.ok(["create", "--name", "heir", "--snapshot", "saved"]);
    assert.equal(await there.sh("heir", `hostname; ${NOTES}`), "heir\non disk\nin memory\n");
  });

  test("takes what the snapshot takes at most, and less: holes and zeros are nothing", async () => {
    const { allocatedBytes } = await shown(here, "saved");
    assert.ok(statSync(archive).size < allocatedBytes);
    const landed = await shown(there, "saved");
    assert.ok(
      landed.allocatedBytes < 1.25 * allocatedBytes,
      `${allocatedBytes}, then ${landed.allocatedBytes}`,
    );
  });

  test("goes through a pipe, under another name, of a VM that came from there itself", async () => {
    await there.sh("heir", "echo later > /root/note; echo later > /run/note; sync");
    await there.ok(["snapshot", "create", "heir", "second"]);
    const hearth = `"${process.execPath}" "${there.program}"`;
    const line = `${hearth} snapshot export second - | ${hearth} snapshot import - --name third`;
    const piped = await runCli("sh", ["-c", line], { env: there.env, timeoutMs: 180_000 });
    assert.deepEqual([piped.code, piped.stdout], [0, "third\n"], piped.stderr);
    await there.ok(["rm", "-f", "heir"]);
    await there.ok(["snapshot", "rm", "saved", "second"]);
    await there.ok(["create", "--name", "heir", "--snapshot", "third"]);
    assert.equal(await there.sh("heir", NOTES), "later\nlater\n");
    await there.ok(["rm", "-f", "heir"]);
    await there.ok(["snapshot", "rm", "third"]);
    assert.deepEqual(there.leftovers(), []);
  });

  test("a disk alone, too", async () => {
    await here.ok(["snapshot", "create", "--disk-only", "web", "disk"]);
    const file = join(here.dir, "disk.tar.zst");
    await here.ok(["snapshot", "export", "disk", file]);
    await there.ok(["snapshot", "import", file]);
    await there.ok(["create", "--name", "heir", "--snapshot", "disk"]);
    const script = "cat /root/note; sha256sum --quiet -c /root/sum; test -e /run/note || echo booted";
    assert.equal(await there.sh("heir", script), "on disk\nbooted\n");
    await there.ok(["rm", "-f", "heir"]);
    await there.ok(["snapshot", "rm", "disk"]);
  });
});

describe("what is no whole archive is refused, and nothing of it is left:", { concurrency: false }, () => {
  const bad = join(there.dir, "bad.tar.zst");
  for (const [what, spoil] of [
    ["cut off in the middle", () => truncateSync(bad, Math.floor(statSync(bad).size / 2))],
    ["cut off before its last byte", () => truncateSync(bad, statSync(bad).size - 1)],
    ["with a piece overwritten", () => writeFileSync(bad, changed(readFileSync(bad)))],
    ["something else", () => writeFileSync(bad, "this is no archive\n".repeat(1000))],
    ["empty", () => truncateSync(bad, 0)],
  ] as const) {
    test(what, async () => {
      writeFileSync(bad, readFileSync(archive));
      spoil();
      const refused = await there.hearth(["--json", "snapshot", "import", bad]);
      assert.equal(refused.code, 1);
      assert.match(refused.stdout + refused.stderr, /"code": ?"archive\.corrupt"/);
      assert.equal(await there.ok(["snapshot", "ls", "-q"]), "");
      assert.deepEqual(there.leftovers(), []);
    });
  }

  test("a name that is taken: the one that is there stays as it is", async () => {
    await there.ok(["snapshot", "import", archive]);
    const first = await shown(there, "saved");
    const refused = await there.hearth(["snapshot", "import", archive]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^error: A snapshot named saved already exists\.\nhint: /m);
    assert.deepEqual(await shown(there, "saved"), first);
    assert.equal(there.snapshotDirs().length, 1);
    await there.ok(["snapshot", "rm", "saved"]);
  });
});

describe("an export that does not come to its end", () => {
  test("leaves no file, and a file that is there is kept", async () => {
    const file = join(here.dir, "kept.tar.zst");
    writeFileSync(file, "kept");
    const refused = await here.hearth(["snapshot", "export", "saved", file]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^hint: .*--force/m);
    assert.equal(readFileSync(file, "utf8"), "kept");
    const dirs = here.snapshotDirs();
    const memories = dirs
      .map((name) => join(here.dirs.state, "snapshots", name, "memory"))
      .filter(existsSync);
    for (const memory of memories) writeFileSync(memory, changed(readFileSync(memory)));
    const spoiled = await here.hearth(["--json", "snapshot", "export", "saved", join(here.dir, "none")]);
    assert.equal(spoiled.code, 1);
    assert.match(spoiled.stdout + spoiled.stderr, /"code": ?"snapshot\.corrupt"/);
    assert.deepEqual(
      readdirSync(here.dir).filter((name) => name.startsWith("none")),
      [],
    );
  });
});

/** More than a byte: to a compressed archive, some make no difference. */
function changed(bytes: Buffer): Buffer {
  const at = Math.floor(bytes.length / 2);
  return bytes.fill("damaged", at, at + 64);
}
