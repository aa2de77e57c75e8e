import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { extract, pack } from "tar-stream";
import type { Header } from "tar-stream";
import type { HearthVm } from "#sdk/hearth.ts";
import { FakeMachine } from "#testing/fake-host.ts";
import type { FakeVmm } from "#testing/fake-vmms.ts";
import { ServedDaemon } from "#testing/served-daemon.ts";

type Part = Partial<Header> & { readonly name: string; readonly body?: string };

const machine = new FakeMachine();
const served = new ServedDaemon(machine);
/** The fake guest: the tars that it sends and receives. */
let guest: FakeVmm;
let vm: HearthVm;
let dir: string;

before(async () => {
  await served.listen();
  guest = await served.run("web");
  vm = (await served.client()).vm("web");
});

beforeEach(() => {
  guest.tars.clear();
  guest.written.clear();
  dir = mkdtempSync(join(tmpdir(), "hearth-copy-"));
});

afterEach(() => rmSync(dir, { recursive: true, force: true }));

after(async () => {
  await served.end();
  machine[Symbol.dispose]();
});

async function tarOf(...parts: readonly Part[]): Promise<Buffer> {
  const tar = pack();
  for (const { body, ...header } of parts) tar.entry(header, body ?? "");
  tar.finalize();
  return Buffer.concat(await Readable.from(tar).toArray());
}

async function entriesOf(tar: Buffer): Promise<readonly (Header & { readonly body: string })[]> {
  const entries = extract();
  entries.end(tar);
  const found = [];
  for await (const entry of entries) {
    const chunks: Buffer[] = [];
    for await (const chunk of entry as AsyncIterable<Buffer>) chunks.push(chunk);
    found.push({ ...entry.header, body: Buffer.concat(chunks).toString() });
  }
  return found;
}

test("modes, times, links, empty files and directories, long and Unicode names survive a copy in both directions", async () => {
  const tree = join(dir, "tree");
  mkdirSync(join(tree, "empty"), { recursive: true });
  writeFileSync(join(tree, "zero"), "");
  writeFileSync(join(tree, "run.sh"), "#!/bin/sh\n", { mode: 0o750 });
  linkSync(join(tree, "run.sh"), join(tree, "same.sh"));
  writeFileSync(join(tree, "ünï cødé\n"), "u");
  writeFileSync(join(tree, "l".repeat(200)), "l");
  writeFileSync(join(tree, "big"), Buffer.alloc(3_000_001, "b"));
  symlinkSync("/etc/passwd", join(tree, "absolute"));
  symlinkSync("nowhere", join(tree, "broken"));
  utimesSync(join(tree, "zero"), 981_173_106, 981_173_106);
  mkdirSync(join(tree, "locked"));
  writeFileSync(join(tree, "locked", "inside"), "i");
  chmodSync(join(tree, "locked"), 0o555);
  guest.tars.set("/srv", await tarOf({ name: "srv/", type: "directory" }));

  await vm.copyIn([tree], "/srv");
  guest.tars.set("/srv/tree", guest.written.get("/srv") ?? Buffer.alloc(0));
  const back = join(dir, "back");
  await vm.copyOut("/srv/tree", back);

  assert.deepEqual(readdirSync(back).toSorted(), readdirSync(tree).toSorted());
  for (const name of ["zero", "run.sh", "ünï cødé\n", "l".repeat(200), "big"]) {
    assert.deepEqual(readFileSync(join(back, name)), readFileSync(join(tree, name)), name);
  }
  assert.equal(statSync(join(back, "run.sh")).mode & 0o777, 0o750);
  assert.equal(statSync(join(back, "locked")).mode & 0o777, 0o555);
  assert.equal(statSync(join(back, "zero")).mtimeMs, 981_173_106_000);
  assert.equal(statSync(join(back, "run.sh")).ino, statSync(join(back, "same.sh")).ino);
  assert.equal(readlinkSync(join(back, "absolute")), "/etc/passwd");
  assert.equal(readlinkSync(join(back, "broken")), "nowhere");
  chmodSync(join(tree, "locked"), 0o755);
  chmodSync(join(back, "locked"), 0o755);
});

test("into the VM: a directory takes files by name, a missing path becomes the file, the content goes with /.", async () => {
  mkdirSync(join(dir, "src"));
  writeFileSync(join(dir, "src", "a"), "a");
  writeFileSync(join(dir, "b"), "b");
  guest.tars.set("/srv", await tarOf({ name: "srv/", type: "directory" }));
  guest.tars.set("/srv/", await tarOf({ name: "srv/", type: "directory" }));
  const cwd = dir;
  const sent = async (path: string) =>
    (await entriesOf(guest.written.get(path) ?? Buffer.alloc(0))).map(({ name }) => name);

  await vm.copyIn(["b", "src"], "/srv/", { cwd });
  assert.deepEqual(await sent("/srv/"), ["b", "src/", "src/a"]);
  await vm.copyIn(["src/."], "/srv", { cwd });
  assert.deepEqual(await sent("/srv"), ["a"]);
  await vm.copyIn(["b"], "/opt/name", { cwd });
  assert.deepEqual(await sent("/opt"), ["name"]);
  await vm.copyIn(["src"], "/opt/new", { cwd });
  assert.deepEqual(await sent("/opt"), ["new/", "new/a"]);
  await vm.copyIn(["b"], "/made/", { cwd, parents: true });
  assert.deepEqual(await sent("/made/"), ["b"]);
  await assert.rejects(vm.copyIn(["b"], "/missing/", { cwd }), { code: "file.not_found" });
  await assert.rejects(vm.copyIn(["nosuch"], "/srv", { cwd }), { code: "file.not_found" });
  guest.tars.set("/file", await tarOf({ name: "file", body: "f" }));
  await assert.rejects(vm.copyIn(["src"], "/file", { cwd }), { code: "file.refused" });
});

test("out of the VM: into a directory by name, over a file, to a new name, contents with /.", async () => {
  const file = await tarOf({ name: "notes.txt", body: "new" });
  const logs = await tarOf({ name: "logs/", type: "directory" }, { name: "logs/a", body: "a" });
  guest.tars.set("/root/notes.txt", file);
  guest.tars.set("/var/logs", logs);
  guest.tars.set("/var/logs/.", logs);
  mkdirSync(join(dir, "into"));
  writeFileSync(join(dir, "old"), "old");
  const cwd = dir;

  await vm.copyOut("/root/notes.txt", "into", { cwd });
  await vm.copyOut("/root/notes.txt", "old", { cwd });
  await vm.copyOut("/root/notes.txt", "fresh", { cwd });
  for (const name of ["into/notes.txt", "old", "fresh"])
    assert.equal(readFileSync(join(dir, name), "utf8"), "new");
  await vm.copyOut("/var/logs", "into", { cwd });
  await vm.copyOut("/var/logs/.", "into", { cwd });
  await vm.copyOut("/var/logs", "renamed", { cwd });
  for (const name of ["into/logs/a", "into/a", "renamed/a"])
    assert.equal(readFileSync(join(dir, name), "utf8"), "a");
  await assert.rejects(vm.copyOut("/root/notes.txt", "missing/", { cwd }), { code: "file.not_found" });
  await assert.rejects(vm.copyOut("/root/notes.txt", "missing/x", { cwd }), { code: "file.not_found" });
  await assert.rejects(vm.copyOut("/var/logs", "old", { cwd }), { code: "file.refused" });
  await assert.rejects(vm.copyOut("/nosuch", ".", { cwd }), { code: "file.not_found" });
});

const ROOT: Part = { name: "d/", type: "directory" };
const ATTACKS: readonly (readonly [what: string, parts: readonly Part[]])[] = [
  ["an absolute name", [ROOT, { name: "/tmp/hearth-evil", body: "x" }]],
  ["a name with ..", [ROOT, { name: "d/../../hearth-evil", body: "x" }]],
  ["another root", [ROOT, { name: "other/evil", body: "x" }]],
  ["a first entry that is no root", [{ name: "a/b/c", body: "x" }]],
  ["a root named ..", [{ name: "..", type: "directory" }]],
  [
    "a file through a link",
    [ROOT, { name: "d/l", type: "symlink", linkname: "/tmp" }, { name: "d/l/hearth-evil", body: "x" }],
  ],
  ["a hard link to a file of the host", [ROOT, { name: "d/l", type: "link", linkname: "/etc/passwd" }]],
  ["a hard link out of the tree", [ROOT, { name: "d/l", type: "link", linkname: "d/../../x" }]],
  [
    "a hard link to a link",
    [
      ROOT,
      { name: "d/s", type: "symlink", linkname: "/etc/passwd" },
      { name: "d/l", type: "link", linkname: "d/s" },
    ],
  ],
  ["a device by itself", [{ name: "d", type: "block-device", devmajor: 8, devminor: 0 }]],
  ["a name of 64 kB", [ROOT, { name: `d/${"x/".repeat(32_768)}`, body: "x" }]],
];

for (const [what, parts] of ATTACKS) {
  test(`out of the VM, ${what} is refused and leaves nothing outside`, async () => {
    guest.tars.set("/d", await tarOf(...parts));
    mkdirSync(join(dir, "in"));
    await assert.rejects(vm.copyOut("/d", join(dir, "in")), (error: { code?: string; message: string }) => {
      assert.equal(error.code, "file.refused");
      assert.doesNotMatch(error.message, /[\u0000-\u0009\u001b]/);
      return true;
    });
    assert.deepEqual(readdirSync(dir), ["in"]);
    assert.ok(!existsSync("/tmp/hearth-evil"));
  });
}

test("a link that exists already is replaced, and never written through", async () => {
  writeFileSync(join(dir, "precious"), "precious");
  mkdirSync(join(dir, "in", "d"), { recursive: true });
  symlinkSync(join(dir, "precious"), join(dir, "in", "d", "f"));
  guest.tars.set("/d", await tarOf(ROOT, { name: "d/f", body: "new" }));
  await vm.copyOut("/d", join(dir, "in"));
  assert.equal(readFileSync(join(dir, "precious"), "utf8"), "precious");
  assert.equal(readFileSync(join(dir, "in", "d", "f"), "utf8"), "new");
  rmSync(join(dir, "in", "d"), { recursive: true });
  symlinkSync(dir, join(dir, "in", "d"));
  await assert.rejects(vm.copyOut("/d", join(dir, "in")), { code: "file.refused" });
});

test("a copy out of a VM clears set-uid and set-gid", async () => {
  guest.tars.set("/d", await tarOf(ROOT, { name: "d/su", mode: 0o6755, body: "x" }));
  await vm.copyOut("/d", join(dir, "d"));
  assert.equal(lstatSync(join(dir, "d", "su")).mode & 0o7777, 0o755);
});

test("a header that never ends is refused before it fills the memory", async () => {
  const tar = await tarOf({ name: "d".repeat(300), body: "" });
  // The pax header claims an enormous size, and what follows never ends it.
  tar.write("77777777777\0", 124);
  const sum = tar
    .subarray(0, 512)
    .reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 32 : byte), 0);
  tar.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  guest.tars.set("/d", Buffer.concat([tar.subarray(0, 1024), Buffer.alloc(4 * 1024 * 1024, "x")]));
  await assert.rejects(vm.copyOut("/d", join(dir, "d")), {
    code: "file.refused",
    message: /a damaged tar stream/,
  });
});

test("a tar stream that is cut off is an error, not half a copy that looks complete", async () => {
  const tar = await tarOf({ name: "big", body: "x".repeat(100_000) });
  guest.tars.set("/big", tar.subarray(0, 50_000));
  await assert.rejects(vm.copyOut("/big", join(dir, "big")), { code: "file.refused" });
});
