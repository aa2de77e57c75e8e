/**
 * A VM on real Firecracker through hearthd, from its start to its end. Where a promise is cheap, one VM serves many.
 */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Vm } from "#api/wire.ts";
import { GIB, MIB } from "#base/sizes.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcess } from "#host/procfs.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import { Bed } from "../e2e/bed.ts";

const bed = new Bed({
  config: '[defaults]\ndriver = "firecracker"\ncpus = 1\nmemory = "256M"\ndisk = "2G"\n',
});
const DISK_BYTES = 2 * GIB;
const NONE = "0000000000000000";
const CGROUPS = "/sys/fs/cgroup";
/** The jailer moves itself into this cgroup unless it is told otherwise; any other user of it on the host makes it. */
const FOREIGN_CGROUP = join(CGROUPS, "firecracker");
let vm: HearthVm;

before(async () => {
  mkdirSync(FOREIGN_CGROUP, { recursive: true });
  await bed.ok(["volume", "create", "data", "--size", "256M"]);
  const volumes = [{ name: "data", path: "/data", readOnly: false }];
  vm = await (await bed.connect()).vms.create({ image: "debian", name: "web", volumes });
  await vm.start();
});

after(() => rmdirSync(FOREIGN_CGROUP));

async function sh(script: string): Promise<string> {
  const { stdout, stderr, exitCode } = await vm.exec(["sh", "-c", script]);
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

/** The CPU time that a process has taken, in 1/100 s. */
function cpuTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

/** Resolves when the process has taken 0.2 s more. */
async function untilBusy(pid: number): Promise<void> {
  const earlier = cpuTicks(pid);
  await bed.until(() => cpuTicks(pid) - earlier > 20);
}

async function pidOf(shown: Promise<Vm> = vm.show()): Promise<number> {
  const { pid } = await shown;
  assert.ok(pid);
  return pid;
}

describe("a VM on Firecracker", () => {
  test("runs commands, and every byte of an argument and the exit code arrive", async () => {
    const odd = ["a b", "$HOME", "", "*", "new\nline", "'\""];
    const { stdout } = await vm.exec(["printf", "%s\\0", ...odd]);
    assert.deepEqual(stdout.split("\0").slice(0, -1), odd);
    assert.equal((await vm.exec(["sh", "-c", "exit 42"])).exitCode, 42);
    assert.equal((await vm.show()).accel, "kvm");
  });

  test("takes files and gives them back", async () => {
    const dir = join(bed.dir, "in");
    mkdirSync(dir);
    writeFileSync(join(dir, "ünï"), "content", { mode: 0o640 });
    symlinkSync("ünï", join(dir, "link"));
    await bed.ok(["cp", dir, "web:/root/"]);
    assert.equal(await sh("stat -c '%a %F' /root/in/ünï; readlink /root/in/link"), "640 regular file\nünï\n");
    await bed.ok(["cp", "web:/root/in", join(bed.dir, "out")]);
    assert.equal(readFileSync(join(bed.dir, "out/ünï"), "utf8"), "content");
  });

  test("has a volume that it may write, although its VMM has a uid of its own", async () => {
    assert.equal(await sh("echo kept > /data/note; sync; cat /data/note"), "kept\n");
  });

  test("its vCPUs run while it is busy, not while it is paused, and again when it is resumed", async () => {
    const busy = await vm.spawn(["sh", "-c", "while :; do :; done"]);
    const pid = await pidOf();
    await untilBusy(pid);
    await vm.pause();
    assert.equal((await vm.show()).phase, "paused");
    const earlier = cpuTicks(pid);
    await sleep(500); // The absence of work can only be waited for.
    assert.ok(cpuTicks(pid) - earlier < 10, "of 50 that a busy vCPU takes");
    await vm.resume();
    await untilBusy(pid);
    busy.close();
    assert.equal(await sh("echo on"), "on\n");
  });

  test("gives memory back and gets it again while it runs", async () => {
    const bytes = async (): Promise<number | undefined> => (await vm.stats()).memoryBytes;
    assert.equal(await bytes(), 256 * MIB);
    await vm.set({ memoryBytes: 192 * MIB });
    assert.equal(await bytes(), 192 * MIB);
    await vm.set({ memoryBytes: 256 * MIB });
    assert.equal(await bytes(), 256 * MIB);
  });

  test("its disk is held to a limit that is set while it runs, and no longer when that is gone", async () => {
    const write = "dd if=/dev/zero of=/root/limited bs=4k count=40 oflag=direct conv=notrunc 2>/dev/null";
    const throttled = async (): Promise<number> => (await vm.stats()).vmm?.blockThrottledCount ?? 0;
    const rise = async (): Promise<number> => {
      const earlier = await throttled();
      await sh(write);
      return (await throttled()) - earlier;
    };
    assert.equal(await rise(), 0, "without a limit");
    await vm.set({ diskLimit: { opsPerS: 10 } }); // The lowest limit: a busy lab did not reach 50.
    assert.equal((await vm.show()).diskLimit?.opsPerS, 10);
    assert.ok((await rise()) > 0, "writes wait for their turn");
    await vm.set({ diskLimit: null });
    assert.equal((await vm.show()).diskLimit, undefined);
    assert.equal(await rise(), 0, "without it again");
  });

  test("counts what it reads and writes", async () => {
    const earlier = (await vm.stats()).vmm;
    assert.ok(earlier, "the metrics are there");
    await sh("dd if=/dev/zero of=/root/zeros bs=64k count=16 conv=fsync 2>/dev/null");
    const later = (await vm.stats()).vmm;
    assert.ok(later && later.blockWriteBytes >= earlier.blockWriteBytes + MIB);
  });

  test("its console and its VMM's log are kept", async () => {
    const { paths } = await vm.show();
    assert.match(readFileSync(paths.console, "utf8"), /^hearth: ready/m);
    assert.match(readFileSync(paths.vmmLog, "utf8"), /Listening on API socket/);
  });
});

describe("the isolation of Firecracker, read from outside", () => {
  test("an own uid, no capability, no new privileges, and a filter on every thread", async () => {
    const pid = await pidOf();
    const uid = (await vm.show()).isolationInForce?.uid;
    assert.ok(uid !== undefined && uid > 0);
    for (const name of ["Uid", "Gid"]) assert.equal(status(pid, name), Array(4).fill(uid).join("\t"));
    for (const name of ["CapInh", "CapPrm", "CapEff", "CapAmb"]) assert.equal(status(pid, name), NONE, name);
    assert.equal(status(pid, "NoNewPrivs"), "1");
    const threads = readdirSync(`/proc/${pid}/task`);
    assert.ok(threads.length > 2);
    for (const thread of threads) assert.equal(status(`${pid}/task/${thread}`, "Seccomp"), "2", thread);
  });

  test("a root of its own in which there is nothing of the host but the VM's files", async () => {
    const pid = await pidOf();
    const { paths } = await vm.show();
    const root = `/proc/${pid}/root`;
    assert.ok(existsSync(join(root, paths.disk)), "this way into the jail works");
    for (const path of ["/etc", "/usr", "/root", "/proc/1", "/sys/fs", "/srv/hearth", paths.vmmLog])
      assert.equal(existsSync(join(root, path)), false, `${path} is not there`);
    for (const name of ["mnt", "pid", "net", "ipc", "uts"])
      assert.notEqual(readlinkSync(`/proc/${pid}/ns/${name}`), readlinkSync(`/proc/self/ns/${name}`), name);
    assert.deepEqual(bed.mounts(), [], "nothing is mounted where the host sees it");
  });

  test("a cgroup with limits on CPU time, memory and tasks, without swap, although the jailer's own is there", async () => {
    assert.ok(existsSync(join(FOREIGN_CGROUP, "cgroup.procs")), "the cgroup that it could go to is there");
    const pid = await pidOf();
    const { id, isolationInForce } = await vm.show();
    const cgroup = join(CGROUPS, "hearth", id);
    assert.equal(isolationInForce?.cgroup, cgroup);
    assert.equal(readFileSync(`/proc/${pid}/cgroup`, "utf8"), `0::/hearth/${id}\n`);
    const limit = (name: string): string => readFileSync(join(cgroup, name), "utf8").trim();
    assert.equal(limit("cpu.max"), "100000 100000");
    assert.equal(limit("memory.max"), String((256 + 64) * MIB));
    assert.equal(limit("memory.swap.max"), "0");
    assert.match(limit("pids.max"), /^\d+$/);
  });

  test("no core dumps, and a bound on the size of its files", async () => {
    const pid = await pidOf();
    const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
    assert.match(limits, /^Max core file size +0 +0 /m);
    assert.match(readFileSync(`/proc/${pid}/coredump_filter`, "utf8"), /^0+\n$/);
    const fileMaxBytes = Number(/^Max file size +(\d+) /m.exec(limits)?.[1]);
    assert.ok(fileMaxBytes >= DISK_BYTES && fileMaxBytes < 2 * DISK_BYTES, String(fileMaxBytes));
  });

  for (const [flag, differs] of Object.entries<(pid: number, shown: Vm) => void>({
    "--no-seccomp": (pid) => assert.equal(status(pid, "Seccomp"), "0"),
    "--no-pid-ns": (pid) =>
      assert.equal(readlinkSync(`/proc/${pid}/ns/pid`), readlinkSync("/proc/self/ns/pid")),
    "--no-cgroup": (_, shown) => assert.equal(shown.isolationInForce?.cgroup, undefined),
    "--no-jail": (pid) => assert.equal(status(pid, "Uid"), "0\t0\t0\t0"),
  })) {
    test(`${flag} removes its own part of the isolation and leaves the others`, async () => {
      await bed.ok(["create", "--name", "less", flag, "debian"]);
      const shown = await bed.vm("less");
      const pid = await pidOf(Promise.resolve(shown));
      differs(pid, shown);
      if (flag !== "--no-seccomp") assert.equal(status(pid, "Seccomp"), "2");
      if (flag !== "--no-jail") assert.notEqual(status(pid, "Uid"), "0\t0\t0\t0");
      if (flag !== "--no-pid-ns")
        assert.notEqual(readlinkSync(`/proc/${pid}/ns/pid`), readlinkSync("/proc/self/ns/pid"));
      if (flag !== "--no-cgroup") assert.ok(shown.isolationInForce?.cgroup);
      await bed.ok(["rm", "-f", "less"]);
    });
  }
});

describe("after a crash", () => {
  test("kill -9 of hearthd leaves the VM running, and the next one has it", async () => {
    const bootId = await sh("cat /proc/sys/kernel/random/boot_id");
    const daemon = bed.daemon();
    assert.ok(daemon);
    await endProcess(daemon, 0, AbortSignal.timeout(30_000));
    assert.equal(await bed.sh("web", "cat /proc/sys/kernel/random/boot_id"), bootId);
  });

  test("kill -9 of the VMM is reported, and leaves no process, uid, cgroup, jail or mount", async () => {
    const vmm = findProcess(await pidOf(bed.vm("web")));
    assert.ok(vmm);
    assert.equal(bed.cgroups().length, 1, "there is one while it runs");
    await endProcess(vmm, 0, AbortSignal.timeout(30_000));
    await bed.until(async () => (await bed.vm("web")).phase === "failed");
    await bed.until(() => readdirSync(join(bed.dirs.run, "vms")).length === 0);
    assert.deepEqual([bed.vmms(), bed.launchers(), bed.uidLeases(), bed.cgroups()], [[], [], [], []]);
    assert.deepEqual(readdirSync(join(bed.dirs.state, "jails")), []);
  });

  test("starts again over what an earlier jail has left, and what that points to outside stays", async () => {
    const { id } = await bed.vm("web");
    const precious = join(bed.dir, "precious");
    mkdirSync(precious);
    writeFileSync(join(precious, "file"), "keep");
    const root = join(bed.dirs.state, "jails", id, "firecracker", id, "root");
    mkdirSync(join(root, "dev/net"), { recursive: true });
    for (const name of ["firecracker", "firecracker.pid", "dev/kvm", "dev/net/tun", "dev/urandom"])
      writeFileSync(join(root, name), "stale");
    symlinkSync(precious, join(root, "dev/shm"));
    await bed.ok(["start", "web"]);
    assert.equal(await bed.sh("web", "cat /root/zeros | wc -c"), `${MIB}\n`, "the disk is as it was");
    await bed.ok(["stop", "web"]);
    assert.deepEqual([(await bed.vm("web")).exit?.reason, (await bed.vm("web")).exit?.code], ["asked", 0]);
    assert.deepEqual(readdirSync(precious), ["file"]);
  });

  test("rm leaves nothing of it", async () => {
    await bed.ok(["rm", "web"]);
    assert.deepEqual([...bed.leftovers(), ...bed.cgroups()], []);
  });
});

function status(pid: number | string, name: string): string {
  const line = new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return line?.[1] ?? "";
}
