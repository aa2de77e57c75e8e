/** `hearth cp`, both ways, with all that a tree of files can hold. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { before, describe, test } from "node:test";
import { pack } from "tar-stream";
import { Bed } from "./bed.ts";
import { runCli } from "./run-cli.ts";

const bed = new Bed();
const TREE = join(bed.dir, "tree");
const MTIME_S = 1_600_000_000;

before(async () => {
  makeTree(TREE);
  await bed.ok(["image", "build", "debian"]);
  await bed.ok(["create", "--name", "box", "debian"]);
});

test("a directory comes back as it went in: contents, modes, times, links, empty and strangely named ones", async () => {
  await bed.ok(["cp", TREE, "box:/root/there"]);
  await bed.ok(["cp", "box:/root/there", join(bed.dir, "back")]);
  assert.deepEqual(describeTree(join(bed.dir, "back")), describeTree(TREE));
});

test("what is in the guest is what the host says: sha256, owner, mode", async () => {
  const sum = createHash("sha256")
    .update(readFileSync(join(TREE, "big")))
    .digest("hex");
  assert.equal(await bed.sh("box", "sha256sum < /root/there/big"), `${sum}  -\n`);
  assert.equal(await bed.sh("box", "stat -c '%U %a' /root/there/script"), "root 755\n");
  assert.equal(await bed.sh("box", "/root/there/script"), "it runs\n");
});

test("setuid goes into a guest, and never comes out of one", async () => {
  const file = join(bed.dir, "setuid");
  writeFileSync(file, "#!/bin/sh\n");
  chmodSync(file, 0o4755);
  await bed.ok(["cp", file, "box:/tmp/"]);
  assert.equal(await bed.sh("box", "stat -c %a /tmp/setuid"), "4755\n");
  await bed.ok(["cp", "box:/tmp/setuid", join(bed.dir, "from the guest")]);
  assert.equal(lstatSync(join(bed.dir, "from the guest")).mode & 0o7777, 0o755);
});

test("one file goes into a directory, or under another name; a directory goes into a directory that is there", async () => {
  await bed.ok(["cp", join(TREE, "empty"), "box:/tmp"]);
  await bed.ok(["cp", join(TREE, "script"), "box:/tmp/renamed"]);
  await bed.ok(["cp", join(TREE, "sub"), join(TREE, "script"), "box:/srv"]);
  await bed.ok(["cp", `${TREE}/.`, "box:/opt"]);
  const ls = await bed.sh("box", "ls -d /tmp/empty /tmp/renamed /srv/sub/inner /srv/script /opt/sub");
  assert.equal(ls, "/opt/sub\n/srv/script\n/srv/sub/inner\n/tmp/empty\n/tmp/renamed\n");
});

test("- is a tar stream, in and out", async () => {
  const tar = await runCli("tar", ["-C", bed.dir, "-c", "tree"], { env: bed.env });
  await bed.ok(["cp", "--parents", "-", "box:/var/new/place"], { stdin: tar.stdoutBytes });
  const out = await bed.hearth(["cp", "box:/var/new/place/tree", "-"]);
  mkdirSync(join(bed.dir, "untarred"));
  const untar = ["-C", join(bed.dir, "untarred"), "-xp"];
  assert.equal((await runCli("tar", untar, { env: bed.env, stdin: out.stdoutBytes })).code, 0);
  assert.deepEqual(describeTree(join(bed.dir, "untarred/tree")), describeTree(TREE));
});

test("what is not there is an error with exit code 1, and makes nothing", async () => {
  const out = await bed.hearth(["cp", "box:/no/such/file", join(bed.dir, "never")]);
  assert.equal(out.code, 1);
  assert.match(out.stderr, /^error: .*\/no\/such\/file/m);
  const into = await bed.hearth(["cp", join(bed.dir, "absent"), "box:/tmp"]);
  assert.equal(into.code, 1);
  const nowhere = await bed.hearth(["cp", join(TREE, "script"), "box:/no/such/directory/"]);
  assert.equal(nowhere.code, 1, nowhere.stderr);
  assert.equal(readdirSync(bed.dir).includes("never"), false);
});

test("a file goes into the directory behind a link, and takes the place of a plain file only", async () => {
  const script = join(TREE, "script");
  for (const guest of ["box:/bin", "box:/bin/"]) await bed.ok(["cp", script, guest]);
  await bed.sh(
    "box",
    "mkfifo /root/fifo; ln -s /bin /root/link; ln -s fifo /root/to-fifo; ln -s nowhere /root/none; ln -s loop /root/loop",
  );
  assert.equal(await bed.sh("box", "/bin/script; readlink /bin"), "it runs\nusr/bin\n");
  for (const guest of ["/dev/null", "/root/fifo", "/root/to-fifo", "/root/none", "/root/loop"]) {
    const refused = await bed.hearth(["cp", script, `box:${guest}`]);
    assert.equal(refused.code, 1, guest);
    assert.match(refused.stderr, /never replaced|does not exist|too many symlinks/);
  }
  // A tree with a file where the guest has a link to a directory.
  mkdirSync(join(bed.dir, "root"));
  writeFileSync(join(bed.dir, "root/link"), "x");
  const tree = await bed.hearth(["cp", `${join(bed.dir, "root")}/.`, "box:/root"]);
  assert.match(tree.stderr, /link to a directory/);
  const kinds = await bed.sh("box", "stat -c %F /bin /dev/null /root/fifo /root/link /root/none");
  assert.equal(kinds, `symbolic link\ncharacter special file\nfifo\n${"symbolic link\n".repeat(2)}`);
});

test("a tree goes through the links of a system, absolute ones too", async () => {
  await bed.sh("box", "ln -sfn /run /var/absolute");
  for (const name of ["var/run", "var/absolute", "lib"])
    mkdirSync(join(bed.dir, "system", name), { recursive: true });
  for (const name of ["var/run/xx", "var/absolute/yy", "lib/zz"])
    writeFileSync(join(bed.dir, "system", name), name);
  await bed.ok(["cp", `${join(bed.dir, "system")}/.`, "box:/"]);
  assert.equal(await bed.sh("box", "cat /run/xx /run/yy /usr/lib/zz"), "var/run/xxvar/absolute/yylib/zz");
  assert.equal(await bed.sh("box", "readlink /var/absolute; readlink /lib"), "/run\nusr/lib\n");
});

test("out of a VM come names that are no UTF-8, files of /proc, and all that can be copied", async () => {
  await bed.sh(
    "box",
    "mkdir /root/odd; cd /root/odd; printf 1 > \"$(printf 'a\\350')\"; printf 2 > \"$(printf 'a\\351')\"; mkfifo pipe",
  );
  const odd = await bed.hearth(["cp", "box:/root/odd", bed.dir]);
  assert.equal(odd.code, 1);
  assert.match(odd.stderr, /not copied: .*pipe.*FIFO/);
  const names = readdirSync(join(bed.dir, "odd"), { encoding: "latin1" });
  assert.deepEqual(names.toSorted(), ["a\u00e8", "a\u00e9"]);
  await bed.ok(["cp", join(bed.dir, "odd"), "box:/root/again"]);
  assert.equal(await bed.sh("box", "cat /root/again/a*"), "12");
  await bed.ok(["cp", "box:/proc/version", join(bed.dir, "version")]);
  assert.equal(readFileSync(join(bed.dir, "version"), "utf8"), await bed.sh("box", "cat /proc/version"));
  await bed.ok(["cp", "box:/root/link/", join(bed.dir, "behind")]);
  assert.ok(readdirSync(join(bed.dir, "behind")).includes("script"));
});

describe("an archive that would leave its destination is refused in the guest", () => {
  for (const [what, entries] of [
    ["..", [{ name: "../escaped" }]],
    ["an absolute name", [{ name: "/root/escaped" }]],
    ["a symlink and a file behind it", [{ name: "out", linkname: "/root" }, { name: "out/escaped" }]],
    ["a relative symlink and a file behind it", [{ name: "out", linkname: ".." }, { name: "out/escaped" }]],
    ["a hard link to the outside", [{ name: "escaped", hardlink: "../.bashrc" }]],
    ["a device", [{ name: "escaped", device: true }]],
  ] as const) {
    test(what, async () => {
      await bed.sh("box", "rm -rf /root/into; mkdir /root/into");
      const archive = pack();
      for (const entry of entries as readonly Entry[]) {
        const type = typeOf(entry);
        const linkname = entry.linkname ?? entry.hardlink;
        if (type === "file") archive.entry({ name: entry.name, mode: 0o644 }, "escaped");
        else archive.entry({ name: entry.name, type, ...(linkname !== undefined && { linkname }) });
      }
      archive.finalize();
      const vm = (await bed.connect()).vm("box");
      await assert.rejects(vm.writeTar("/root/into", Readable.from(archive)), { code: "file.refused" });
      assert.equal(await bed.sh("box", "find / -xdev -name escaped"), "");
    });
  }
});

type Entry = {
  readonly name: string;
  readonly linkname?: string;
  readonly hardlink?: string;
  readonly device?: true;
};

function typeOf(entry: Entry): "symlink" | "link" | "block-device" | "file" {
  if (entry.linkname !== undefined) return "symlink";
  if (entry.hardlink !== undefined) return "link";
  return entry.device === true ? "block-device" : "file";
}

function makeTree(root: string): void {
  const file = (name: string, content: string | Buffer, mode: number): void => {
    writeFileSync(join(root, name), content);
    chmodSync(join(root, name), mode);
  };
  mkdirSync(join(root, "sub/inner"), { recursive: true });
  mkdirSync(join(root, "empty directory"), { mode: 0o700 });
  file("empty", "", 0o600);
  file("script", "#!/bin/sh\necho it runs\n", 0o755);
  file("big", Buffer.alloc(3 * 1024 * 1024 + 1, "0123456789abcde"), 0o444);
  file("naïve 日本 👩‍🚀", "unicode", 0o644);
  file("a\nnewline and a ' quote", "odd", 0o640);
  file(`sub/${"long".repeat(60)}`, "a name that tar's old header cannot hold", 0o644);
  linkSync(join(root, "script"), join(root, "sub/hard"));
  symlinkSync("../script", join(root, "sub/relative"));
  symlinkSync("/etc/hostname", join(root, "absolute"));
  symlinkSync("nowhere", join(root, "dangling"));
  for (const name of ["sub/inner", "sub", "empty directory", "empty", "script", "big"])
    utimesSync(join(root, name), MTIME_S, MTIME_S);
  chmodSync(join(root, "sub/inner"), 0o555);
}

/** Everything that must survive, one line for each entry. */
function describeTree(root: string): string[] {
  return readdirSync(root, { recursive: true, encoding: "utf8" })
    .toSorted()
    .map((name) => {
      const path = join(root, name);
      const stat = lstatSync(path);
      if (stat.isSymbolicLink()) return `${name} -> ${readlinkSync(path)}`;
      const what = stat.isDirectory() ? "dir" : createHash("sha256").update(readFileSync(path)).digest("hex");
      return `${name} ${(stat.mode & 0o7777).toString(8)} ${Math.floor(stat.mtimeMs / 1000)} ${what}`;
    });
}
