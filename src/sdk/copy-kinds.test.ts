/** Tests `hearth cp` with devices, FIFOs, sockets, links, names that are not UTF-8, and copies that fail midway. */
import { SkippedFiles } from "#sdk/skipped-files.ts";
import { noticingSkipped } from "#sdk/tar-skipped.ts";
import assert from "node:assert/strict";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { pack } from "tar-stream";
import type { Header } from "tar-stream";
import { run } from "#host/run.ts";
import { bytePath } from "#sdk/byte-path.ts";
import type { BytePath } from "#sdk/byte-path.ts";
import type { HearthVm } from "#sdk/hearth.ts";
import { TAR_END, tarHeader, tarPadding } from "#sdk/tar-format.ts";
import type { TarHeader } from "#sdk/tar-format.ts";
import { readTarMembers } from "#sdk/tar-read.ts";
import { CliRun } from "#testing/cli-run.ts";
import { ENDLESS } from "#testing/guest-command.ts";
import { FakeMachine } from "#testing/fake-host.ts";
import type { FakeVmm } from "#testing/fake-vmms.ts";
import { ServedDaemon } from "#testing/served-daemon.ts";

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

async function tarOf(
  ...parts: readonly (Partial<Header> & { name: string; body?: string })[]
): Promise<Buffer> {
  const tar = pack();
  for (const { body, ...header } of parts) tar.entry(header, body ?? "");
  tar.finalize();
  return Buffer.concat(await Readable.from(tar).toArray());
}

/** Builds an archive whose names are bytes. */
function rawTar(...parts: readonly (Partial<TarHeader> & { readonly body?: string })[]): Buffer {
  const blocks = parts.map(({ body = "", ...header }) => {
    const size = Buffer.byteLength(body);
    const whole = {
      name: "",
      type: "file",
      mode: 0o644,
      mtimeS: 0,
      linkname: "",
      ...header,
      size,
    } as TarHeader;
    return Buffer.concat([tarHeader(whole), Buffer.from(body), tarPadding(size)]);
  });
  return Buffer.concat([...blocks, TAR_END]);
}

async function sentTo(path: string): Promise<readonly (TarHeader & { readonly body: string })[]> {
  const found = [];
  for await (const { header, content } of readTarMembers(
    Readable.from([guest.written.get(path) ?? TAR_END]),
  )) {
    const chunks: Buffer[] = [];
    for await (const chunk of content) chunks.push(chunk);
    found.push({ ...header, body: Buffer.concat(chunks).toString() });
  }
  return found;
}

async function makeSpecial(what: "device" | "FIFO" | "socket", path: string): Promise<AsyncDisposable> {
  const options = { timeoutMs: 10_000, signal: new AbortController().signal };
  if (what === "FIFO") await run("mkfifo", [path], options);
  if (what === "device") await run("mknod", [path, "c", "1", "3"], options);
  const server = createServer();
  if (what === "socket") await new Promise<void>((resolve) => server.listen(path, resolve));
  return {
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

const isRoot = process.getuid?.() === 0;

for (const what of ["device", "FIFO", "socket"] as const) {
  const skip = what === "device" && !isRoot && "making a device needs root";
  test(`a copy out of the VM never replaces a ${what} of the host`, { skip }, async () => {
    guest.tars.set("/f", await tarOf({ name: "f", body: "new" }));
    guest.tars.set("/d", await tarOf({ name: "d/", type: "directory" }, { name: "d/f", body: "new" }));
    mkdirSync(join(dir, "d"));
    for (const path of ["f", "d/f"]) {
      await using special = await makeSpecial(what, join(dir, path));
      const old = lstatSync(join(dir, path));
      await assert.rejects(vm.copyOut(path === "f" ? "/f" : "/d", join(dir, path === "f" ? "f" : ".")), {
        code: "file.refused",
        message: new RegExp(what),
      });
      assert.equal(lstatSync(join(dir, path)).ino, old.ino);
      assert.ok(special);
    }
  });

  test(`a copy into the VM reports a ${what} and copies everything else`, { skip }, async () => {
    guest.tars.set("/srv", await tarOf({ name: "srv/", type: "directory" }));
    mkdirSync(join(dir, "tree"));
    for (const name of ["a", "z"]) writeFileSync(join(dir, "tree", name), name);
    await using special = await makeSpecial(what, join(dir, "tree", "m"));
    const skipped: string[] = [];
    await assert.rejects(
      vm.copyIn([join(dir, "tree")], "/srv", { onSkip: (text) => void skipped.push(text) }),
      { code: "file.skipped", message: new RegExp(`m".*${what}`) },
    );
    assert.equal(skipped.length, 1);
    assert.deepEqual(
      (await sentTo("/srv")).map(({ name }) => name),
      ["tree/", "tree/a", "tree/z"],
    );
    assert.ok(special);
  });
}

test("a copy out of the VM reports what it skips and copies everything else", async () => {
  guest.tars.set(
    "/d",
    Buffer.concat([
      (await tarOf({ name: "d/", type: "directory" })).subarray(0, -1024),
      (await tarOf({ name: "d/sda", type: "block-device", devmajor: 8, devminor: 0 })).subarray(0, -1024),
      (await tarOf({ name: "d/fifo", type: "fifo" })).subarray(0, -1024),
      paxGlobal("HEARTH.skipped", "d/\u001b[31msock: a socket"),
      await tarOf({ name: "d/last", body: "last" }),
    ]),
  );
  const skipped: string[] = [];
  await assert.rejects(vm.copyOut("/d", join(dir, "d"), { onSkip: (text) => void skipped.push(text) }), {
    code: "file.skipped",
    message: /sda.*block device.*and 2 more/,
  });
  assert.deepEqual(readdirSync(join(dir, "d")), ["last"]);
  assert.equal(skipped.length, 3);
  assert.match(skipped[2] ?? "", /socket/);
  assert.doesNotMatch(skipped.join(""), /\u001b/);
});

test("a tar stream out of the VM is passed on unchanged, and its missing files are reported", async () => {
  const archive = Buffer.concat([
    (await tarOf({ name: "d/", type: "directory" })).subarray(0, -1024),
    paxGlobal("HEARTH.skipped", "d/\u001b[31msock: a socket"),
    await tarOf({ name: "d/last", body: "x".repeat(30_000) }),
  ]);
  for (const bytes of [1, 511, 512, 65_536]) {
    const told: string[] = [];
    const skipped = new SkippedFiles((text) => void told.push(text));
    const came: Uint8Array[] = [];
    for await (const chunk of noticingSkipped(pieces(archive, bytes * 7), skipped)) came.push(chunk);
    assert.ok(Buffer.concat(came).equals(archive));
    assert.equal(told.length, 1);
    assert.match(told[0] ?? "", /sock: a socket/);
    assert.throws(() => skipped.throwIfAny(), { code: "file.skipped" });
  }
});

test("a stream that is not an archive is passed on whole, and fails at its end", async () => {
  const noise = Buffer.alloc(1_000_000, "no archive ");
  const came: Uint8Array[] = [];
  const read = async (): Promise<void> => {
    for await (const chunk of noticingSkipped(pieces(noise, 4_096), new SkippedFiles(undefined)))
      came.push(chunk);
  };
  await assert.rejects(read(), { code: "file.refused" });
  assert.ok(Buffer.concat(came).equals(noise));
});

async function* pieces(bytes: Buffer, length: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

function paxGlobal(key: string, value: string): Buffer {
  const record = ` ${key}=${value}\n`;
  const body = `${Buffer.byteLength(record) + 2}${record}`;
  const block = tarHeader({
    name: bytePath("g"),
    type: "file",
    size: Buffer.byteLength(body),
    mode: 0,
    mtimeS: 0,
    linkname: bytePath(""),
  });
  block.write("g", 156);
  block.write("        ", 148);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([block, Buffer.from(body), tarPadding(Buffer.byteLength(body))]);
}

test("a copy that is cut off leaves the old file of the host, and no temporary file", async () => {
  writeFileSync(join(dir, "f"), "old");
  const tar = await tarOf({ name: "f", body: "x".repeat(100_000) });
  guest.tars.set("/f", tar.subarray(0, 50_000));
  await assert.rejects(vm.copyOut("/f", join(dir, "f")), { code: "file.refused" });
  assert.deepEqual(readdirSync(dir), ["f"]);
  assert.equal(readFileSync(join(dir, "f"), "utf8"), "old");
});

test("an archive that ends between two files is not taken for a complete one", async () => {
  const tar = await tarOf({ name: "d/", type: "directory" }, { name: "d/a", body: "a" });
  guest.tars.set("/d", tar.subarray(0, -1024));
  await assert.rejects(vm.copyOut("/d", join(dir, "d")), { code: "file.refused" });
});

test("names that are not UTF-8 stay distinct in both directions", async () => {
  const names = ["a\xe8", "a\xe9", "\xff".repeat(200)] as BytePath[];
  guest.tars.set(
    "/d",
    rawTar(
      { name: bytePath("d/"), type: "directory" },
      ...names.map((name) => ({ name: `d/${name}` as BytePath, body: name })),
      { name: bytePath("d/link"), type: "symlink", linkname: names[0] ?? bytePath("") },
    ),
  );
  await vm.copyOut("/d", join(dir, "d"));
  const there = readdirSync(join(dir, "d"), { encoding: "buffer" }).map((name) => name.toString("latin1"));
  assert.deepEqual(there.toSorted(), [...names, "link"].toSorted());
  assert.equal(readlinkSync(join(dir, "d", "link"), { encoding: "latin1" }), "a\xe8");

  guest.tars.set("/srv", await tarOf({ name: "srv/", type: "directory" }));
  await vm.copyIn([join(dir, "d")], "/srv");
  const sent = await sentTo("/srv");
  assert.deepEqual(
    sent.map(({ name }) => name).toSorted(),
    ["d/", ...names.map((name) => `d/${name}`), "d/link"].toSorted(),
  );
  assert.equal(sent.find(({ type }) => type === "symlink")?.linkname, "a\xe8");
});

test("a copy into the VM follows a destination that is a link, to a directory or to a file", async () => {
  writeFileSync(join(dir, "f"), "f");
  guest.tars.set("/bin", await tarOf({ name: "bin", type: "symlink", linkname: "usr/bin" }));
  guest.tars.set("/bin/.", await tarOf({ name: "./", type: "directory" }));
  await vm.copyIn([join(dir, "f")], "/bin");
  assert.deepEqual([...guest.written.keys()], ["/bin"]);
  assert.equal((await sentTo("/bin"))[0]?.name, "f");

  guest.tars.set("/etc/a", await tarOf({ name: "a", type: "symlink", linkname: "../run/b" }));
  guest.tars.set("/etc/../run/b", await tarOf({ name: "b", body: "old" }));
  await vm.copyIn([join(dir, "f")], "/etc/a");
  assert.equal((await sentTo("/etc/../run"))[0]?.name, "b");
});

test("a copy into the VM refuses a dangling link, and a link that an older agent does not follow", async () => {
  writeFileSync(join(dir, "f"), "f");
  const link = await tarOf({ name: "l", type: "symlink", linkname: "nowhere" });
  guest.tars.set("/l", link);
  await assert.rejects(vm.copyIn([join(dir, "f")], "/l"), {
    code: "file.refused",
    message: /to a path that does not exist/,
  });
  guest.tars.set("/l/.", link);
  await assert.rejects(vm.copyIn([join(dir, "f")], "/l"), { code: "file.refused", message: /directory/ });
  guest.tars.set(
    "/dev/null",
    await tarOf({ name: "null", type: "character-device", devmajor: 1, devminor: 3 }),
  );
  await assert.rejects(vm.copyIn([join(dir, "f")], "/dev/null"), { code: "file.refused", message: /device/ });
  assert.equal(guest.written.size, 0);
});

test("a copy into the VM copies a link as a link, and with a slash the directory behind it", async () => {
  guest.tars.set("/srv", await tarOf({ name: "srv/", type: "directory" }));
  mkdirSync(join(dir, "real"));
  writeFileSync(join(dir, "real", "f"), "f");
  symlinkSync("real", join(dir, "link"));
  symlinkSync("nowhere", join(dir, "dangling"));
  for (const [given, want] of [
    ["link", ["link"]],
    ["link/", ["link/", "link/f"]],
    ["link/.", ["f"]],
    ["dangling", ["dangling"]],
  ] as const) {
    await vm.copyIn([given], "/srv", { cwd: dir });
    assert.deepEqual(
      (await sentTo("/srv")).map(({ name }) => name),
      want,
      given,
    );
  }
  await assert.rejects(vm.copyIn(["dangling/"], "/srv", { cwd: dir }), { code: "file.not_found" });
});

test("a copy out of the VM follows a link that it is given, and never replaces a link to a directory", async () => {
  guest.tars.set("/f", await tarOf({ name: "f", body: "new" }));
  mkdirSync(join(dir, "real"));
  writeFileSync(join(dir, "real", "target"), "old");
  symlinkSync("real/target", join(dir, "link"));
  await vm.copyOut("/f", join(dir, "link"));
  assert.equal(readFileSync(join(dir, "real", "target"), "utf8"), "new");
  assert.ok(lstatSync(join(dir, "link")).isSymbolicLink());
  symlinkSync("real", join(dir, "f"));
  await assert.rejects(vm.copyOut("/f", dir), { code: "file.refused", message: /link to a directory/ });
  symlinkSync("nowhere", join(dir, "dangling"));
  await assert.rejects(vm.copyOut("/f", join(dir, "dangling")), { code: "file.refused" });
  assert.deepEqual(readdirSync(dir).toSorted(), ["dangling", "f", "link", "real"]);
});

test("files in /proc go into a VM with their content", async () => {
  guest.tars.set("/srv", await tarOf({ name: "srv/", type: "directory" }));
  assert.equal(statSync("/proc/version").size, 0);
  await vm.copyIn(["/proc/version"], "/srv");
  assert.equal((await sentTo("/srv"))[0]?.body, readFileSync("/proc/version", "utf8"));
});

test("cancelling hearth cp leaves the old file of the host, and no temporary file", async () => {
  writeFileSync(join(dir, "f"), "old");
  const tar = await tarOf({ name: ENDLESS, body: "x".repeat(100_000) });
  guest.tars.set(`/${ENDLESS}`, tar.subarray(0, 50_000)); // Half of the archive, and then nothing.
  const cli = new CliRun(served, ["cp", `web:/${ENDLESS}`, join(dir, "f")]);
  while (!readdirSync(dir).some((name) => name.endsWith(".part"))) await new Promise(setImmediate);
  cli.signal("SIGTERM");
  assert.equal(await cli.code, 143);
  assert.deepEqual(readdirSync(dir), ["f"]);
  assert.equal(readFileSync(join(dir, "f"), "utf8"), "old");
});
