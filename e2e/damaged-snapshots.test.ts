/** Snapshots cannot be changed, and one that was changed all the same is not used. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  createReadStream,
  ftruncateSync,
  openSync,
  readSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { before, describe, test } from "node:test";
import type { Snapshot } from "#api/wire.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed({ warm: true });
/** The first VM of a shape is to boot, and its template is made when a test says so. */
const NO_WARM = "--no-warm";
let dir: string;

async function sha256(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer);
  return hash.digest("hex");
}

async function shown(name: string): Promise<Snapshot> {
  return JSON.parse(await bed.ok(["snapshot", "show", "--json", name])) as Snapshot;
}

const PAGE = 4096;

/** Its size stays. */
function flipByte(path: string, at: number): void {
  const { mode } = statSync(path);
  chmodSync(path, 0o600);
  const file = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  byte[0] = (byte[0] ?? 0) ^ 0x01;
  writeSync(file, byte, 0, 1, at);
  closeSync(file);
  chmodSync(path, mode);
}

function truncate(path: string): void {
  const file = openSync(path, "r+");
  ftruncateSync(file, statSync(path).size - 4096);
  closeSync(file);
}

before(async () => {
  await bed.ok(["create", NO_WARM, "--name", "web", ...SMALL, "debian"]);
  await bed.sh("web", "echo in memory > /run/note");
  await bed.ok(["snapshot", "create", "web", "kept"]);
  const [id = ""] = bed.snapshotDirs();
  dir = join(bed.dirs.state, "snapshots", id);
});

describe("the files of a snapshot", { concurrency: false }, () => {
  test("cannot be written to, nor reached by others", async () => {
    assert.equal(statSync(dir).mode & 0o077, 0, "its directory lets nobody in but hearthd");
    const writable = readdirSync(dir).filter((name) => statSync(join(dir, name)).mode & 0o222);
    assert.deepEqual(writable, []);
    await bed.ok(["create", "--name", "copy", "--snapshot", "kept"]);
    const { driver } = await bed.vm("copy");
    // By the version of the QEMU that is there; each says what it lacks.
    const says =
      /^caveat +(QEMU before 8\.2 opens a guest memory file for writing|A restored VM cannot give memory back)/m;
    assert.equal(says.test(await bed.ok(["show", "copy"])), driver === "qemu");
  });

  test("are what they were, whatever a VM that maps them writes to its memory and its disk", async () => {
    const parts = (await shown("kept")).parts;
    assert.deepEqual(parts.map(({ name }) => name).toSorted(), ["memory", "state"]);
    const script = "head -c 64M /dev/urandom > /run/much; head -c 16M /dev/urandom > /root/much; sync";
    await bed.sh("copy", script);
    for (const { name, sizeBytes, sha256: expected } of parts) {
      assert.equal(statSync(join(dir, name)).size, sizeBytes);
      assert.equal(await sha256(join(dir, name)), expected, name);
    }
    await bed.ok(["create", "--name", "other", "--snapshot", "kept"]);
    assert.equal(
      await bed.sh("other", "cat /run/note; ls /run/much /root/much 2>/dev/null | wc -l"),
      "in memory\n0\n",
    );
    await bed.ok(["rm", "-f", "copy", "other"]);
  });
});

const DAMAGES = [
  ["a byte of the memory", "memory", (path: string) => flipByte(path, 100 * 1024 * 1024)],
  ["the first byte of the memory", "memory", (path: string) => flipByte(path, 0)],
  ["a byte of the state", "state", (path: string) => flipByte(path, Math.floor(statSync(path).size / 2))],
  ["a memory that is too short", "memory", truncate],
  ["a state that is too short", "state", truncate],
  ["a memory that is gone", "memory", (path: string) => rmSync(path)],
] as const;

describe("a snapshot that is damaged is refused before anything is started:", { concurrency: false }, () => {
  for (const [index, [what, part, damage]] of DAMAGES.entries()) {
    const restarted = index % 2 === 1;
    test(`${what}, ${restarted ? "seen by a new hearthd" : "behind the back of hearthd"}`, async () => {
      const path = join(dir, part);
      const sound = `${dir}.${part}`;
      const [{ mode }, vmms] = [statSync(path), bed.vmms().length];
      copyFileSync(path, sound);
      if (restarted) await bed.ok(["daemon", "stop"]);
      damage(path);
      for (const words of [
        ["create", "--name", "copy", "--snapshot", "kept"],
        ["snapshot", "restore", "kept"],
      ]) {
        const refused = await bed.hearth(["--json", ...words]);
        assert.equal(refused.code, 1, refused.stdout);
        const said = refused.stdout + refused.stderr;
        assert.match(said, /"code": ?"snapshot\.corrupt"/);
        assert.match(said, new RegExp(`kept is damaged: .*/${part}: [^"]*"`));
        assert.match(said, /"hint": ?"Nothing was started\. [^"]*another snapshot/);
      }
      assert.equal(bed.vmms().length, vmms, "nothing was started");
      assert.equal(await bed.sh("web", "cat /run/note"), "in memory\n", "the VM that was to go back runs on");
      await bed.hearth(["rm", "-f", "copy"]);
      rmSync(path, { force: true });
      renameSync(sound, path);
      chmodSync(path, mode);
      await bed.ok(["create", "--name", "copy", "--snapshot", "kept"]); // It was the damage.
      assert.equal(await bed.sh("copy", "cat /run/note"), "in memory\n");
      await bed.ok(["rm", "-f", "copy"]);
    });
  }
});

describe("a snapshot whose disk is not whole", () => {
  for (const part of ["layer-0.raw", "empty.qcow2"]) {
    test(`because ${part} is gone is refused with a code and a hint, and nothing is started`, async () => {
      const path = join(dir, part);
      const vmms = bed.vmms().length;
      renameSync(path, `${dir}.${part}`);
      const refused = await bed.hearth(["--json", "create", "--name", "copy", "--snapshot", "kept"]);
      await bed.hearth(["rm", "-f", "copy"]);
      assert.equal(refused.code, 1);
      assert.match(refused.stdout + refused.stderr, /"code": ?"snapshot\.corrupt"[^}]*"hint"/);
      assert.equal(bed.vmms().length, vmms);
      renameSync(`${dir}.${part}`, path);
    });
  }
});

describe("memory that is not compatible is refused with the reason, before anything is started:", () => {
  /** Changes what the store knows of the snapshot, as an older Hearth or another host would have written it. */
  async function changeShape(path: string, value: string): Promise<() => Promise<void>> {
    await bed.ok(["daemon", "stop"]);
    await bed.until(() => bed.daemon() === undefined);
    using store = new DatabaseSync(join(bed.dirs.state, "hearth.db"));
    const { record, shape } = store
      .prepare("SELECT record, shape FROM snapshots WHERE name = 'kept'")
      .get() as { record: string; shape: string };
    const set = store.prepare("UPDATE snapshots SET record = ?, shape = ? WHERE name = 'kept'");
    const changed = JSON.parse(record) as { shape: { vm: Record<string, string>; vmm: string; key: string } };
    if (path === "vmm") changed.shape.vmm = value;
    else changed.shape.vm[path] = value;
    changed.shape.key = "0".repeat(64);
    set.run(JSON.stringify(changed), changed.shape.key);
    return async () => {
      await bed.ok(["daemon", "stop"]);
      await bed.until(() => bed.daemon() === undefined);
      using again = new DatabaseSync(join(bed.dirs.state, "hearth.db"));
      again.prepare("UPDATE snapshots SET record = ?, shape = ? WHERE name = 'kept'").run(record, shape);
    };
  }

  /** Does what the hint says. */
  async function assertBootsCold(): Promise<void> {
    await bed.ok(["create", "--name", "cold", "--cold", "--snapshot", "kept"]);
    assert.equal(await bed.sh("cold", "test -e /run/note || echo booted"), "booted\n");
    await bed.ok(["rm", "-f", "cold"]);
  }

  for (const [what, path, value, says] of [
    [
      "another version of the VMM, or another CPU",
      "vmm",
      "qemu 6.0.0, emulated",
      /was saved with the VMM qemu 6/,
    ],
    ["another memory size", "memory", "536870912", /was saved with memory 536870912; here it is 268435456/],
    ["another number of CPUs", "cpus", "7", /was saved with cpus 7; here it is 1/],
    ["another image", "image", "sha256:00", /was saved with image sha256:00/],
    ["another kernel", "kernel", "sha256:11", /was saved with kernel sha256:11/],
    ["another agent", "initramfs", "old.cpio", /was saved with initramfs old\.cpio/],
  ] as const) {
    test(what, async () => {
      const undo = await changeShape(path, value);
      const vmms = bed.vmms().length;
      for (const words of [
        ["create", "--name", "copy", "--snapshot", "kept"],
        ["snapshot", "restore", "kept"],
      ]) {
        const refused = await bed.hearth(words);
        assert.equal(refused.code, 1);
        assert.match(refused.stderr, says);
        assert.match(refused.stderr, /^hint: .*--cold/m);
        assert.equal(bed.vmms().length, vmms);
        await bed.hearth(["rm", "-f", "copy"]);
      }
      assert.equal(await bed.sh("web", "cat /run/note"), "in memory\n");
      if (path === "vmm") await assertBootsCold();
      await undo();
    });
  }

  test("and is compatible again when all is as it was", async () => {
    await bed.ok(["create", "--name", "copy", "--snapshot", "kept"]);
    assert.equal(await bed.sh("copy", "cat /run/note"), "in memory\n");
    await bed.ok(["rm", "-f", "copy"]);
  });
});

describe("a template that is damaged", { concurrency: false }, () => {
  const flipInside = (path: string): void => flipByte(path, Math.floor(statSync(path).size / 3));
  /** Damages memory that no guest uses: VMs that run have the file mapped. */
  const flipUnused = (path: string): void => {
    const memory = readFileSync(path);
    const zeros = Buffer.alloc(PAGE);
    for (let at = PAGE * Math.floor(memory.length / PAGE / 3); at < memory.length; at += PAGE)
      if (memory.subarray(at, at + PAGE).equals(zeros)) return flipByte(path, at);
    assert.fail(`${path} has no page of zeros`);
  };
  for (const [what, part, damage] of [
    ["in its memory", "memory", flipUnused],
    ["in its state", "state", flipInside],
    ["because its disk is gone", "layer-0.raw", rmSync],
  ] as const) {
    test(`${what}: the VM boots, says so, is like any other, and no VM starts from it again`, async () => {
      const id = (await bed.ok(["template", "build", ...SMALL, "debian"])).trim();
      await bed.ok(["create", "--name", "restored", ...SMALL, "debian"]);
      assert.equal((await bed.vm("restored")).restoredFrom, id, "it does serve");
      damage(join(bed.dirs.state, "snapshots", id, part));
      const words = [NO_WARM, "--name", "boots", ...SMALL, "debian"];
      const { code, stderr } = await bed.hearth(["create", ...words]);
      assert.equal(code, 0, stderr);
      assert.match(stderr, /the template does not work; booting instead/);
      assert.equal((await bed.vm("boots")).restoredFrom, undefined);
      const script = "hostname; cat /sys/class/net/lo/flags; cat /proc/sys/kernel/random/boot_id";
      const own = await bed.sh("boots", script);
      assert.match(own, /^boots\n0x9\n[0-9a-f-]{36}\n$/);
      assert.doesNotMatch(await bed.ok(["template", "ls", "-q"]), new RegExp(id));
      assert.equal(await bed.sh("restored", "hostname"), "restored\n", "who runs on it runs on");
      await bed.ok(["fork", "--name", "copy", "boots"]);
      const copied = await bed.sh("copy", script);
      assert.match(copied, /^copy\n0x9\n[0-9a-f-]{36}\n$/);
      assert.notEqual(copied.split("\n")[2], own.split("\n")[2]);
      await bed.ok(["rm", "-f", "boots", "restored", "copy"]);
      const next = await bed.hearth(["run", "--rm", NO_WARM, ...SMALL, "debian", "--", "true"]);
      assert.doesNotMatch(next.stderr, /template does not work/, "there is no retry");
      const log = readFileSync(join(bed.dirs.state, "hearthd.log"), "utf8");
      assert.match(log, new RegExp(`"event":"vm.restore_failed","snapshot":"${id}"`));
      const again = (await bed.ok(["template", "build", ...SMALL, "debian"])).trim();
      assert.notEqual(again, id);
      await bed.ok(["template", "rm", again]);
    });
  }

  test("leaves nothing of it behind the next start of hearthd", async () => {
    await bed.ok(["rm", "-f", "web"]);
    await bed.ok(["snapshot", "rm", "kept"]);
    await bed.ok(["daemon", "stop"]);
    await bed.ok(["ls"]);
    assert.deepEqual(bed.leftovers(), []);
  });
});
