/** Tests the verb that starts a VMM, with a real process in its place. */
import assert from "node:assert/strict";
import {
  closeSync,
  constants as fileConstants,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { constants, getPriority } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { PortLaunch } from "#helper/privileged-port.ts";
import { makeFifos } from "#host/fifo.ts";
import type { PrivilegedVerbs } from "#helper/privileged-verbs.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcess } from "#host/procfs.ts";
import { HelperPlace, SLEEP, VM } from "#testing/helper-place.ts";

const isRoot = process.geteuid?.() === 0;
const never = new AbortController().signal;
const { PRIORITY_LOW } = constants.priority;

/** Resolves when the program in the VMM's place runs. */
async function launch(t: TestContext, helper: PrivilegedVerbs, what: PortLaunch) {
  const { process: vmm, exit } = await helper.launchVmm(VM, what, never);
  assert.ok(vmm);
  t.after(() => endProcess(vmm, 0, never));
  while (readFileSync(`/proc/${vmm.pid}/comm`, "utf8") !== "sleep\n") await new Promise(setImmediate);
  return { vmm, exit };
}

test("a VMM has the VM's uid, cgroup and priority, and its end is reported", { skip: !isRoot }, async (t) => {
  using place = new HelperPlace();
  const helper = place.helper();
  const uid = await helper.leaseUid(VM);
  const isolation = { jail: true, pidNamespace: true, network: { kind: "own" }, cgroup: true } as const;
  const { vmm, exit } = await launch(t, helper, { ...SLEEP, isolation, priority: "background" });
  assert.match(readFileSync(`/proc/${vmm.pid}/status`, "utf8"), new RegExp(`^Uid:\\s+${uid}\\s`, "m"));
  const procs = join(place.roots.cgroups, "hearth", VM, "cgroup.procs");
  assert.equal(readFileSync(procs, "utf8"), String(vmm.pid));
  assert.equal(getPriority(vmm.pid), PRIORITY_LOW);
  await endProcess(vmm, 0, never);
  assert.deepEqual(await exit, { code: null, signal: "SIGKILL" });
});

test("a VMM without isolation is in no cgroup, in the run directory, and writes to the VM's log", async (t) => {
  using place = new HelperPlace();
  const { vmm } = await launch(t, place.helper(), SLEEP);
  assert.equal(getPriority(vmm.pid), getPriority());
  assert.equal(readFileSync(join(place.roots.cgroups, "hearth", VM, "cgroup.procs"), "utf8"), "");
  assert.equal(findProcess(vmm.pid)?.startTicks, vmm.startTicks);
  const { exit } = await place.helper().launchVmm(VM, { ...SLEEP, args: ["forever"] }, never);
  assert.equal((await exit).code, 1);
  assert.match(readFileSync(join(place.roots.vms, VM, "vmm.log"), "utf8"), /forever/);
});

test("a VMM that cannot be put into its cgroup does not run", { skip: !isRoot }, async () => {
  using place = new HelperPlace();
  const ran = join(place.outside, "ran");
  rmSync(join(place.roots.cgroups, "hearth", VM), { recursive: true });
  const isolation = { ...SLEEP.isolation, pidNamespace: true, cgroup: true };
  const helper = place.helper(true, { programs: { programs: ["touch"], dirs: [] } });
  const touch: PortLaunch = { ...SLEEP, program: "touch", args: [ran], isolation };
  await assert.rejects(helper.launchVmm(VM, touch, never), { code: "host.tool_failed" });
  assert.ok(!existsSync(ran));
  // The probe works: with its cgroup left out it runs.
  const { exit } = await helper.launchVmm(
    VM,
    { ...touch, isolation: { ...isolation, cgroup: false } },
    never,
  );
  await exit;
  assert.ok(existsSync(ran));
});

test("a program that is not a configured VMM is not started, as a VMM or as a jailer", async () => {
  using place = new HelperPlace();
  const helper = place.helper();
  const before = place.snapshot();
  const others = ["sh", "/bin/sh", join(place.outside, "precious"), "../bin/sh", "", "sleep\0", 1 as never];
  for (const program of others)
    await assert.rejects(helper.launchVmm(VM, { ...SLEEP, program }, never), ({ code }: { code: string }) =>
      ["input.invalid", "vmm.missing"].includes(code),
    );
  await assert.rejects(helper.launchVmm(VM, { ...SLEEP, jailer: "sh" }, never), { code: "input.invalid" });
  const link = join(place.outside, "sleep");
  symlinkSync("/bin/sh", link);
  await assert.rejects(helper.launchVmm(VM, { ...SLEEP, program: link }, never), { code: "input.invalid" });
  rmSync(link);
  assert.deepEqual(
    place.snapshot().filter((line) => !line.startsWith("outside ")),
    before.filter((line) => !line.startsWith("outside ")),
  );
});

test(
  "the isolation of a VMM is read back, of no process but the one that was launched",
  { skip: !isRoot },
  async (t) => {
    using place = new HelperPlace();
    const helper = place.helper();
    await helper.leaseUid(VM);
    const isolation = { jail: true, pidNamespace: true, network: { kind: "own" }, cgroup: true } as const;
    const { vmm, exit } = await launch(t, helper, { ...SLEEP, isolation });
    assert.deepEqual(await helper.findIsolationFaults(VM, vmm, { seccomp: false }), []);
    assert.match(readFileSync(`/proc/${vmm.pid}/coredump_filter`, "utf8"), /^0+\n$/);
    // The program in its place has no filter.
    assert.equal((await helper.findIsolationFaults(VM, vmm, { seccomp: true })).length, 1);
    writeFileSync(join(place.roots.cgroups, "hearth", VM, "cgroup.procs"), "");
    const [fault = ""] = await helper.findIsolationFaults(VM, vmm, { seccomp: false });
    assert.match(fault, /^it is in the cgroup /);
    const own = findProcess(process.pid);
    assert.ok(own);
    const before = readFileSync("/proc/self/coredump_filter", "utf8");
    for (const other of [own, { ...vmm, startTicks: vmm.startTicks + 1 }])
      await assert.rejects(helper.findIsolationFaults(VM, other, { seccomp: false }), {
        code: "input.invalid",
      });
    assert.equal(readFileSync("/proc/self/coredump_filter", "utf8"), before);
    await endProcess(vmm, 0, never);
    await exit;
    assert.deepEqual(
      await helper.findIsolationFaults(VM, vmm, { seccomp: true }),
      [],
      "its end is told elsewhere",
    );
    await helper.releaseUid(VM, never);
    await assert.rejects(helper.findIsolationFaults(VM, vmm, { seccomp: false }), { code: "input.invalid" });
  },
);

test("a VMM in a jail is not started as root", { skip: !isRoot }, async () => {
  using place = new HelperPlace();
  const jailed: PortLaunch = { ...SLEEP, isolation: { ...SLEEP.isolation, jail: true } };
  await assert.rejects(place.helper().launchVmm(VM, jailed, never), { code: "input.invalid" });
});

test("a log that is a link is refused, and its target is unchanged", async () => {
  using place = new HelperPlace();
  const log = join(place.roots.vms, VM, "vmm.log");
  for (const target of [join(place.outside, "precious"), join(place.outside, "nothing")]) {
    symlinkSync(target, log);
    const launched = place.helper().launchVmm(VM, { ...SLEEP, args: ["forever"] }, never);
    await assert.rejects(launched, { code: "path.unmanaged" });
    rmSync(log);
  }
  assert.equal(readFileSync(join(place.outside, "precious"), "utf8"), "");
  assert.ok(!existsSync(join(place.outside, "nothing")));
});

const CAT: PortLaunch = { ...SLEEP, program: "cat", args: [] };
const OTHER = "vm-bbbbbbbbbbbb";

/** Makes a place with a file to read, a FIFO of the VM's and one of another VM's, and a port that may start `cat`. */
async function placeToRead() {
  const place = new HelperPlace();
  const stdin = join(place.roots.snapshots, "sn-aaaaaaaaaaaa", "state");
  const stdout = join(place.runDir, "console.fifo");
  const others = join(place.roots.runs, OTHER, "console.fifo");
  for (const dir of ["sn-aaaaaaaaaaaa", "sn-bbbbbbbbbbbb"])
    mkdirSync(join(place.roots.snapshots, dir), { recursive: true });
  mkdirSync(join(place.roots.runs, OTHER));
  writeFileSync(stdin, "saved");
  await makeFifos([stdout, others, join(place.outside, "fifo")], never);
  const helper = place.helper(isRoot, { programs: { programs: ["cat"], dirs: [] } });
  return { place, stdin, stdout, others, helper };
}

test("a VMM reads a file of a snapshot and writes to a FIFO of the VM, which the port opens by their paths", async () => {
  const { place, stdin, stdout, helper } = await placeToRead();
  using _place = place;
  const reader = openSync(stdout, fileConstants.O_RDONLY | fileConstants.O_NONBLOCK);
  const { exit } = await helper.launchVmm(VM, { ...CAT, stdin, stdout }, never);
  assert.deepEqual(await exit, { code: 0, signal: null });
  const read = Buffer.alloc(100);
  assert.equal(read.toString("utf8", 0, readSync(reader, read)), "saved");
  closeSync(reader);
});

test("a VMM is not started in a network namespace that is not the VM's", async () => {
  using place = new HelperPlace();
  for (const path of [
    `${place.roots.networks}/${OTHER}`,
    "/proc/1/ns/net",
    `${place.roots.networks}/../netns/${VM}`,
  ]) {
    const isolation = { ...SLEEP.isolation, network: { kind: "join", path } } as const;
    const launching = place.helper().launchVmm(VM, { ...SLEEP, isolation }, never);
    await assert.rejects(launching, { code: "input.invalid", message: /is not the network namespace of/ });
  }
});

type Foreign = Awaited<ReturnType<typeof placeToRead>>;
const FOREIGN_STDIO: Readonly<Record<string, (at: Foreign) => Pick<PortLaunch, "stdin" | "stdout">>> = {
  "a stdin that is nobody's": ({ place }) => ({ stdin: join(place.outside, "precious") }),
  "a stdin above a directory": ({ place }) => ({
    stdin: `${place.roots.snapshots}/sn-aaaaaaaaaaaa/../../outside/precious`,
  }),
  "a stdin that is a link": ({ place, stdin }) => {
    rmSync(stdin);
    symlinkSync(join(place.outside, "precious"), stdin);
    return { stdin };
  },
  "a stdin with a second name": ({ place, stdin }) => {
    rmSync(stdin);
    linkSync(join(place.outside, "precious"), stdin);
    return { stdin };
  },
  "a stdin in a directory that is a link": ({ place, stdin }) => {
    renameSync(join(place.roots.snapshots, "sn-aaaaaaaaaaaa"), join(place.outside, "state"));
    symlinkSync(join(place.outside, "state"), join(place.roots.snapshots, "sn-aaaaaaaaaaaa"));
    return { stdin };
  },
  "a stdin that is a FIFO": ({ stdin, stdout }) => {
    rmSync(stdin);
    renameSync(stdout, stdin);
    return { stdin };
  },
  "a stdin that is a directory": ({ place }) => ({ stdin: join(place.roots.vms, VM) }),
  "a stdin that is no path": () => ({ stdin: 0 as never }),
  "a stdout that is nobody's": ({ place }) => ({ stdout: join(place.outside, "fifo") }),
  "a stdout of another VM": ({ others }) => ({ stdout: others }),
  "a stdout that leads to another VM": ({ place }) => ({
    stdout: `${place.runDir}/../${OTHER}/console.fifo`,
  }),
  "a stdout that is a link": ({ stdout, others }) => {
    rmSync(stdout);
    symlinkSync(others, stdout);
    return { stdout };
  },
  "a stdout in a run directory that is a link": ({ place, stdout }) => {
    rmSync(place.runDir, { recursive: true });
    symlinkSync(place.outside, place.runDir);
    renameSync(join(place.outside, "fifo"), join(place.outside, "console.fifo"));
    return { stdout };
  },
  "a stdout that is the VM's disk": ({ place }) => ({ stdout: place.disk }),
};

for (const [what, lay] of Object.entries(FOREIGN_STDIO)) {
  test(`${what} is refused, and nothing runs`, async () => {
    const at = await placeToRead();
    using place = at.place;
    const stdio = lay(at);
    const before = place.snapshot();
    await assert.rejects(at.helper.launchVmm(VM, { ...CAT, ...stdio }, never), {
      code: what.endsWith("no path") ? "input.invalid" : "path.unmanaged",
    });
    assert.deepEqual(withoutLog(place.snapshot()), withoutLog(before));
  });
}

/** The log is made first. */
function withoutLog(names: readonly string[]): string[] {
  return names.filter((name) => !name.startsWith(`vms/${VM}`));
}
