/** Tests the files that a VMM or a tool sees, if hearthd has fewer rights than the port. */
import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, relative } from "node:path";
import { describe, test } from "node:test";
import { VM_NAMES } from "#base/file-names.ts";
import type { PortLaunch } from "#helper/privileged-port.ts";
import { asUntraceable, ShownFiles } from "#helper/shown-files.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcess } from "#host/procfs.ts";
import { run, startDetached } from "#host/run.ts";
import { setprivArguments } from "#host/sandbox-root.ts";
import type { SandboxFile } from "#host/sandbox-root.ts";
import { HelperPlace, shell, SLEEP, VM } from "#testing/helper-place.ts";
import { openFilesOf } from "#testing/open-files.ts";

const isRoot = process.geteuid?.() === 0;
const never = new AbortController().signal;
const OWNER = { uid: 1_980_000_500, gid: 1_980_000_600 };
const LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6";
const JAILED = { ...SLEEP.isolation, jail: true, pidNamespace: true };
const programs = { programs: ["cat", "sleep"], dirs: [] };

/** Makes a place whose files belong to hearthd, with a kernel that everybody may read. */
function apart() {
  const place = new HelperPlace();
  const kernel = join(place.roots.vms, VM, "kernel");
  writeFileSync(kernel, "kernel", { mode: 0o644 });
  place.giveTo(OWNER);
  return { place, kernel, helper: place.helper(true, { owner: OWNER, programs }) };
}

/** Makes a file that everybody may read, below a directory that only root enters. */
function secretOf(place: HelperPlace): string {
  const dir = join(place.outside, "closed");
  mkdirSync(dir, { mode: 0o700 });
  writeFileSync(join(dir, "secret"), "secret", { mode: 0o644 });
  chmodSync(join(dir, "secret"), 0o644);
  return join(dir, "secret");
}

function logOf(place: HelperPlace): string {
  return readFileSync(join(place.roots.vms, VM, VM_NAMES.vmmLog), "utf8");
}

describe("with a hearthd without root", { skip: !isRoot }, () => {
  test("a VMM reads a file of hearthd's and its own disk, and has no other file open", async (t) => {
    const { place, kernel, helper } = apart();
    using _place = place;
    await helper.leaseUid(VM);
    await helper.giveFiles(VM);
    const files: SandboxFile[] = [
      { path: kernel, access: "read" },
      { path: place.disk, access: "write" },
      { path: place.runDir, access: "write", at: "/r" },
    ];
    const read: PortLaunch = { ...SLEEP, program: "cat", args: [kernel], files, isolation: JAILED };
    const { exit } = await helper.launchVmm(VM, read, never);
    assert.deepEqual(await exit, { code: 0, signal: null }, logOf(place));
    assert.equal(logOf(place), "kernel");
    const { process: vmm } = await helper.launchVmm(VM, { ...SLEEP, files, isolation: JAILED }, never);
    assert.ok(vmm);
    t.after(() => endProcess(vmm, 0, never));
    while (readFileSync(`/proc/${vmm.pid}/comm`, "utf8") !== "sleep\n") await new Promise(setImmediate);
    const open = openFilesOf(vmm.pid);
    const ofFiles = open.filter((path) => path.startsWith("/")).map((path) => path.replace(/.*\//, ""));
    assert.deepEqual([...new Set(ofFiles)].toSorted(), ["null", "vmm.log"]);
  });

  test("a tool reads and writes the files that hearthd may, and no others", async () => {
    const { place, kernel, helper } = apart();
    using _place = place;
    const copy = { ...shell(`cat "${kernel}" > "${place.disk}"`, place.disk), reads: [kernel] };
    await helper.runTool(copy, never);
    assert.equal(readFileSync(place.disk, "utf8"), "kernel");
    const secret = secretOf(place);
    const refused = { code: "path.unmanaged", message: /the user of hearthd has no read permission/ };
    await assert.rejects(helper.runTool({ ...shell(`cat "${secret}"`), reads: [secret] }, never), refused);
    chownSync(place.disk, 0, OWNER.gid);
    chmodSync(place.disk, 0o660);
    await assert.rejects(helper.runTool(shell("true", place.disk), never), { code: "path.unmanaged" });
  });

  type Lay = (at: ReturnType<typeof apart>) => { files: SandboxFile[]; code?: string };
  const REFUSED: Readonly<Record<string, Lay>> = {
    "that everybody may read, below a directory that is closed to hearthd": ({ place }) => ({
      files: [{ path: secretOf(place), access: "read" }],
    }),
    "of that kind, behind a link of hearthd's": ({ place }) => {
      const link = join(place.roots.vms, VM, "dir");
      const secret = secretOf(place);
      symlinkSync(join(secret, ".."), link);
      return { files: [{ path: join(link, "secret"), access: "read" }] };
    },
    "that hearthd may not read": ({ kernel }) => {
      chownSync(kernel, 0, 0);
      chmodSync(kernel, 0o600);
      return { files: [{ path: kernel, access: "read" }] };
    },
    "to write that hearthd may only read": ({ kernel }) => {
      chownSync(kernel, 0, 0);
      return { files: [{ path: kernel, access: "write" }] };
    },
    "that is a link": ({ place, kernel }) => {
      const link = join(place.roots.vms, VM, "link");
      symlinkSync(kernel, link);
      return { files: [{ path: link, access: "read" }] };
    },
    "over a library of the sandbox's": ({ kernel }) => ({
      files: [{ path: kernel, access: "read", at: LIBC }],
    }),
    "over all of the sandbox's programs": ({ place }) => ({
      files: [{ path: place.runDir, access: "read", at: "/usr" }],
    }),
    "over everything": ({ place }) => ({ files: [{ path: place.runDir, access: "read", at: "/" }] }),
    "above the sandbox's root": ({ kernel }) => ({
      files: [{ path: kernel, access: "read", at: `/../../..${LIBC}` }],
      code: "input.invalid",
    }),
    "by a path that is not absolute, and could be a word to a program": ({ kernel }) => ({
      files: [{ path: relative(process.cwd(), kernel), access: "read", at: "/kernel" }],
      code: "input.invalid",
    }),
    "in a directory that is shown as well, where a link may lead elsewhere": ({ place, kernel }) => ({
      files: [
        { path: place.runDir, access: "write", at: "/r" },
        { path: kernel, access: "read", at: "/r/link" },
      ],
    }),
    "that is no device of VMMs": () => ({
      files: [{ path: "/dev/mem", access: "device" }],
      code: "input.invalid",
    }),
    "as a device elsewhere": ({ kernel }) => ({
      files: [{ path: kernel, access: "device" }],
      code: "input.invalid",
    }),
    "that is a device": () => ({ files: [{ path: "/dev/null", access: "write" }] }),
  };
  for (const [what, lay] of Object.entries(REFUSED)) {
    test(`a file ${what} is not shown`, async () => {
      const at = apart();
      using place = at.place;
      await at.helper.leaseUid(VM);
      const { files, code = "path.unmanaged" } = lay(at);
      const launch = { ...SLEEP, files, isolation: JAILED };
      await assert.rejects(at.helper.launchVmm(VM, launch, never), { code });
      assert.equal(logOf(place), "");
    });
  }

  test("hearthd's own processes cannot reach into the one that looks for it", async (t) => {
    const { place } = apart();
    using _place = place;
    const plain = setprivArguments({ setpriv: "setpriv" }, OWNER, []);
    const traced = async (as: readonly string[]): Promise<boolean> => {
      const [file = "", ...args] = [...as, "sleep", "1000"];
      const options = { cwd: "/", logFile: join(place.outside, "log"), onExit: () => {} };
      const pid = await startDetached(file, args, options);
      const looked = findProcess(pid);
      assert.ok(looked);
      t.after(() => endProcess(looked, 0, never));
      while (readFileSync(`/proc/${pid}/comm`, "utf8") !== "sleep\n") await new Promise(setImmediate);
      const [program = "", ...look] = [...plain, "readlink", `/proc/${pid}/fd/0`];
      return (await run(program, look, { timeoutMs: 10_000, signal: never })).ok;
    };
    assert.equal(await traced(plain), true, "the probe works");
    assert.equal(await traced(asUntraceable("setpriv", OWNER)), false);
  });

  test("without a jail a VMM gets no group of another device", async () => {
    const { place, helper } = apart();
    using _place = place;
    const files = [{ path: "/dev/mem", access: "device" }] as const;
    await assert.rejects(helper.launchVmm(VM, { ...SLEEP, files }, never), { code: "input.invalid" });
  });

  test("the checked file is mounted, even if its path leads elsewhere by then", async () => {
    const { place, kernel } = apart();
    using _place = place;
    using shown = await ShownFiles.open([{ path: kernel, access: "read" }], OWNER, never);
    renameSync(kernel, `${kernel}.old`);
    symlinkSync(secretOf(place), kernel);
    const [file] = shown.files;
    assert.ok(file?.fd !== undefined);
    assert.equal(readlinkSync(`/proc/self/fd/${file.fd}`), `${kernel}.old`);
    rmSync(kernel);
  });
});

test("a hearthd that has the port's own rights names files by their paths", async () => {
  using shown = await ShownFiles.open([{ path: "/nowhere", access: "read" }], undefined, never);
  assert.deepEqual(shown.files, [{ path: "/nowhere", access: "read" }]);
});
