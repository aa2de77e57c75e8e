/** The isolation around a VMM, read from outside: /proc, and what is on the host. */
import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import type { Vm } from "#api/wire.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcess } from "#host/procfs.ts";
import { NETWORK_NAMESPACES } from "#network/vm-network.ts";
import { Bed } from "./bed.ts";
import { testedQemu } from "./tested-qemu.ts";

const bed = new Bed();
const isRoot = process.geteuid?.() === 0;
/** Where the uids that hearthd leases begin. */
const UID_FIRST = 1_900_000_000;
const NAMESPACES = ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user"] as const;

before(async () => void (await bed.ok(["image", "build", "debian"])));

type Isolation = {
  readonly uids: string;
  readonly gids: string;
  readonly groups: string;
  readonly capabilities: string;
  readonly noNewPrivs: string;
  /** The seccomp mode of each thread. */
  readonly seccomp: readonly string[];
  /** Namespaces that the VMM does not share with this process. */
  readonly namespaces: readonly string[];
  /** `path access` of all that is mounted for the VMM. */
  readonly mounts: readonly string[];
  readonly openFiles: string;
  readonly fileBytes: string;
  /** The limit, and the kinds of memory that a dump would have. */
  readonly coreDumps: string;
  readonly pidInside: string;
};

async function create(name: string, ...flags: string[]): Promise<Vm> {
  await bed.ok(["create", "--name", name, ...flags, "debian"]);
  return bed.vm(name);
}

/** All that /proc says about the isolation of a process. */
function isolationOf(pid: number): Isolation {
  const status = fieldsOf(`/proc/${pid}/status`, /^(\w+):[ \t]*(.*)$/gm);
  const limits = fieldsOf(`/proc/${pid}/limits`, /^(Max [a-z ]+?) {2,}(\S+)/gm);
  const field = (name: string): string => (status.get(name) ?? "").trim().replaceAll("\t", " ");
  return {
    uids: field("Uid"),
    gids: field("Gid"),
    groups: field("Groups"),
    capabilities: ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(field).join(" "),
    noNewPrivs: field("NoNewPrivs"),
    seccomp: readdirSync(`/proc/${pid}/task`).map(
      (thread) => fieldsOf(`/proc/${pid}/task/${thread}/status`, /^(\w+):[ \t]*(.*)$/gm).get("Seccomp") ?? "",
    ),
    namespaces: NAMESPACES.filter(
      (name) => readlinkSync(`/proc/${pid}/ns/${name}`) !== readlinkSync(`/proc/self/ns/${name}`),
    ),
    mounts: readFileSync(`/proc/${pid}/mountinfo`, "utf8")
      .trim()
      .split("\n")
      .map((line) => `${line.split(" ")[4]} ${line.split(" ")[5]?.split(",")[0]}`),
    openFiles: limits.get("Max open files") ?? "",
    fileBytes: limits.get("Max file size") ?? "",
    coreDumps: `${limits.get("Max core file size")} ${readFileSync(`/proc/${pid}/coredump_filter`, "utf8").trim()}`,
    pidInside: field("NSpid").split(" ").at(-1) ?? "",
  };
}

function fieldsOf(file: string, line: RegExp): Map<string, string> {
  const lines = readFileSync(file, "utf8").matchAll(line);
  return new Map([...lines].map(([, name = "", value = ""]) => [name, value]));
}

/** A guest memory file that VMs share, which is only read; or a VM's own copy of one, whose name is gone by now. */
function isSavedMemory(mount: string): boolean {
  if (!mount.startsWith(`${bed.dirs.state}/`)) return false;
  return /\/snapshots\/sn-[^/]+\/memory ro$/.test(mount) || isMemoryCopy(mount);
}

function isMemoryCopy(mount: string): boolean {
  return /\/vms\/vm-[^/]+\/memory\.own(\/\/deleted)? rw$/.test(mount);
}

/** True for a mount of a VM that boots, or of one that is restored. */
function isOfItsStart(mount: string): boolean {
  return /\/(vmlinuz|[0-9a-f]{64}\.cpio) ro$/.test(mount) || isSavedMemory(mount);
}

/** True for the network namespace of any VM of this host, which a VMM without a jail sees come and go. */
function isOfOtherVms(mount: string): boolean {
  return mount.startsWith(NETWORK_NAMESPACES);
}

function pidOf(vm: Vm): number {
  assert.ok(vm.pid);
  return vm.pid;
}

const NONE = "0000000000000000";
const NO_DUMPS = "0 00000000";

function assertWhole(vm: Vm): void {
  const found = isolationOf(pidOf(vm));
  const uid = vm.isolationInForce?.uid;
  if (isRoot) {
    assert.ok(uid !== undefined && uid >= UID_FIRST);
    assert.equal(found.uids, [uid, uid, uid, uid].join(" "));
    assert.equal(found.gids, found.uids);
    assert.equal(found.groups, "");
  }
  assert.equal(found.capabilities, [NONE, NONE, NONE, NONE, NONE].join(" "));
  assert.equal(found.noNewPrivs, "1");
  assert.ok(found.seccomp.length > 1);
  assert.deepEqual([...new Set(found.seccomp)], ["2"]);
  assert.deepEqual(
    found.namespaces.filter((name) => name !== "user"),
    ["mnt", "pid", "net", "ipc", "uts", "cgroup"],
  );
  assert.equal(found.pidInside, "1");
  assert.deepEqual([found.openFiles, found.coreDumps], ["4096", NO_DUMPS]);
  const fileBytes = Number(found.fileBytes);
  assert.ok(fileBytes > vm.diskBytes && fileBytes < 2 * vm.diskBytes, found.fileBytes);
}

describe("a VM that was made without a word about isolation", () => {
  let vm: Vm;
  before(() => create("web"));
  beforeEach(async () => void (vm = await bed.vm("web")));
  after(async () => void (await bed.ok(["rm", "-f", "web"])));

  test("has all of its isolation, on every thread", () => assertWhole(vm));

  test("its guest sees no virtualization that it could use itself", async () => {
    assert.equal(await bed.sh("web", "grep -c -w -E 'vmx|svm' /proc/cpuinfo || true"), "0\n");
  });

  test("sees the VM's own files, the system read-only, and nothing else of the host", () => {
    const { mounts } = isolationOf(pidOf(vm));
    const rw = mounts.filter((mount) => mount.endsWith(" rw") && !mount.startsWith("/dev/"));
    const own = [`${vm.paths.disk} rw`, `${vm.paths.sockets} rw`].toSorted();
    assert.deepEqual(rw.filter((mount) => !isMemoryCopy(mount)).toSorted(), own);
    // The tested QEMU may have a prefix of its own.
    const qemuPrefix = dirname(dirname(testedQemu() ?? "/usr/bin/qemu"));
    const known = [
      /^\/ ro$/,
      /^\/(usr|lib|lib32|lib64|libx32|bin|sbin|etc\/ld\.so\.cache) ro$/,
      new RegExp(`^(${qemuPrefix}|\\S+/share/\\S+/qboot\\.rom) ro$`),
      /^\/dev( ro|\/(null|zero|full|random|urandom|tty|pts|console|kvm) rw)$/,
      new RegExp(`^${bed.dirs.cache}/(kernels|initramfs|images)/\\S+ ro$`),
      new RegExp(`^${vm.paths.state}/layer-\\d+\\.(raw|qcow2) ro$`),
    ];
    const others = mounts.filter(
      (mount) => !rw.includes(mount) && !isSavedMemory(mount) && !known.some((one) => one.test(mount)),
    );
    assert.deepEqual(others, []);
    const root = `/proc/${pidOf(vm)}/root`;
    assert.ok(statSync(join(root, vm.paths.disk)).isFile(), "this way into the jail works");
    const hidden = [
      "/root/.ssh",
      "/home",
      "/proc",
      "/sys",
      "/var",
      "/run/hearth",
      "/etc/passwd",
      vm.paths.vmmLog,
    ];
    for (const path of hidden) assert.equal(existsSync(join(root, path)), false, `${path} is not there`);
    const layers = readdirSync(vm.paths.state).filter((name) => /^(disk|layer-\d+)\.(raw|qcow2)$/.test(name));
    const shown = readdirSync(join(root, vm.paths.state)).filter((name) => name !== "memory.own");
    assert.deepEqual(shown, layers);
    assert.deepEqual(readdirSync(join(root, bed.dirs.run)), ["vms"]);
  });

  test("gives its uid the disk and the sockets, and nothing shared", { skip: !isRoot }, () => {
    const uid = vm.isolationInForce?.uid;
    assert.equal(statSync(vm.paths.disk).uid, uid);
    const cached = readdirSync(bed.dirs.cache, { recursive: true, encoding: "utf8" });
    assert.ok(cached.length > 0);
    for (const name of cached) {
      const stats = statSync(join(bed.dirs.cache, name), { throwIfNoEntry: false });
      assert.notEqual(stats?.uid, uid, name);
    }
    const run = statSync(vm.paths.sockets);
    assert.deepEqual(
      [run.uid, run.mode & 0o777],
      [bed.uid, 0o710],
      "once it runs it can put nothing beside its sockets",
    );
  });

  test("says in show what is in force, and no more", async () => {
    const text = await bed.ok(["show", "web"]);
    assert.match(text, /^isolation +jail.*, pid namespace, net namespace, (cgroup \S+, )?seccomp$/m);
    const inForce = vm.isolationInForce;
    assert.ok(inForce);
    assert.deepEqual(
      [inForce.jail, inForce.pidNamespace, inForce.networkNamespace, inForce.seccomp],
      [true, true, true, true],
    );
    const limited = inForce.cgroup !== undefined;
    assert.equal(
      vm.caveats.some((sentence) => /not limited/.test(sentence)),
      !limited,
    );
  });

  test("is the same after stop and start, and after restart", async () => {
    await bed.ok(["stop", "web"]);
    if (isRoot) assert.equal(statSync(vm.paths.disk).uid, bed.uid, "a stopped VM's disk is hearthd's");
    assert.deepEqual(bed.uidLeases(), []);
    await bed.ok(["start", "web"]);
    assertWhole(await bed.vm("web"));
    await bed.ok(["restart", "web"]);
    assertWhole(await bed.vm("web"));
  });

  test("two VMs never share a uid", { skip: !isRoot }, async () => {
    const other = await create("other");
    assert.notEqual(other.isolationInForce?.uid, vm.isolationInForce?.uid);
    assert.equal(new Set(bed.uidLeases()).size, 2);
    await bed.ok(["rm", "-f", "other"]);
  });

  const noHelper = bed.isApart ? false : "this hearthd has no helper";
  test("kill -9 of the helper ends hearthd, and the next one has the VM", { skip: noHelper }, async () => {
    const { pid } = await bed.vm("web");
    assert.equal(await bed.killHelper(), 1);
    assert.equal(bed.daemon(), undefined);
    assert.match(bed.log(), /"event":"helper\.gone"/);
    assert.equal(await bed.sh("web", "echo alive"), "alive\n");
    assert.equal((await bed.vm("web")).pid, pid);
  });

  test("kill -9 of its launcher is nothing to it; when it ends later, nothing is left", async () => {
    const launchers = bed.launchers();
    assert.equal(launchers.length, 1);
    for (const launcher of launchers) await endProcess(launcher, 0, AbortSignal.timeout(10_000));
    assert.equal(await bed.sh("web", "echo alive"), "alive\n");
    assert.equal((await bed.vm("web")).pid, vm.pid);
    await bed.ok(["stop", "web"]);
    assert.deepEqual([bed.vmms(), bed.launchers(), bed.uidLeases()], [[], [], []]);
    assert.deepEqual(readdirSync(join(bed.dirs.run, "vms")), []);
    await bed.ok(["start", "web"]);
  });

  test("kill -9 of the VMM leaves no launcher, uid or run directory", async () => {
    const vmm = findProcess(pidOf(vm));
    assert.ok(vmm);
    await endProcess(vmm, 0, AbortSignal.timeout(10_000));
    await bed.until(async () => (await bed.vm("web")).phase === "failed");
    await bed.until(() => readdirSync(join(bed.dirs.run, "vms")).length === 0);
    assert.deepEqual([bed.vmms(), bed.launchers(), bed.uidLeases()], [[], [], []]);
    await bed.ok(["start", "web"]);
    assertWhole(await bed.vm("web"));
  });

  test("kill -9 of hearthd and of the VMM: the next hearthd releases what they had", async () => {
    const daemon = bed.daemon();
    const vmm = findProcess(pidOf(vm));
    assert.ok(daemon && vmm);
    await endProcess(daemon, 0, AbortSignal.timeout(10_000));
    await endProcess(vmm, 0, AbortSignal.timeout(10_000));
    assert.equal((await bed.vm("web")).phase, "stopped");
    assert.deepEqual([bed.vmms(), bed.launchers(), bed.uidLeases()], [[], [], []]);
    await bed.ok(["rm", "web"]);
    assert.deepEqual(bed.leftovers(), []);
    await create("web");
  });
});

describe("each flag removes its own part of the isolation", () => {
  let whole: Isolation;
  before(async () => {
    whole = comparable(isolationOf(pidOf(await create("whole"))));
    await bed.ok(["rm", "-f", "whole"]);
  });

  afterEach(async () => void (await bed.hearth(["rm", "-f", "less"])));

  /** Removes what differs between any two VMs, and between one that boots and one that is restored. */
  function comparable(found: Isolation): Isolation {
    const plain = (text: string): string => text.replaceAll(/vm-[a-z2-7]{12}/g, "ID");
    const { uids, gids } = found;
    return {
      ...found,
      uids: isRoot && !uids.startsWith(`${bed.uid} `) ? "own" : uids,
      gids: isRoot && !gids.startsWith(`${bed.uid} `) ? "own" : gids,
      seccomp: [...new Set(found.seccomp)],
      mounts: found.mounts.filter((mount) => !isOfItsStart(mount) && !isOfOtherVms(mount)).map(plain),
      pidInside: found.pidInside === "1" ? "1" : "the host's",
    };
  }

  async function foundWith(...flags: string[]): Promise<{ vm: Vm; found: Isolation }> {
    const vm = await create("less", ...flags);
    const found = comparable(isolationOf(pidOf(vm)));
    await bed.ok(["restart", "less"]);
    assert.deepEqual(comparable(isolationOf(pidOf(await bed.vm("less")))), found, "the same after a restart");
    await bed.ok(["rm", "-f", "less"]);
    assert.deepEqual(bed.leftovers(), []);
    return { vm, found };
  }

  test("--no-seccomp", async () => {
    const { vm, found } = await foundWith("--no-seccomp");
    assert.deepEqual(found, { ...whole, seccomp: ["0"] });
    assert.deepEqual(vm.isolation, { jail: true, pidNamespace: true, cgroup: true, seccomp: false });
    assert.ok(vm.caveats.some((sentence) => /--no-seccomp/.test(sentence)));
  });

  test("--no-pid-ns", async () => {
    const { vm, found } = await foundWith("--no-pid-ns");
    const namespaces = whole.namespaces.filter((name) => name !== "pid");
    assert.deepEqual(found, { ...whole, namespaces, pidInside: "the host's" });
    assert.equal(vm.isolationInForce?.pidNamespace, false);
  });

  test("--no-cgroup", async () => {
    const { vm, found } = await foundWith("--no-cgroup");
    assert.deepEqual(found, whole);
    assert.equal(vm.isolationInForce?.cgroup, undefined);
    assert.ok(vm.caveats.some((sentence) => /--no-cgroup/.test(sentence)));
  });

  test("--no-jail: the pid namespace and seccomp are there all the same", async () => {
    const { vm, found } = await foundWith("--no-jail");
    assert.deepEqual([found.seccomp, found.pidInside, found.coreDumps], [["2"], "1", NO_DUMPS]);
    assert.deepEqual(
      found.namespaces.filter((name) => name !== "user"),
      ["mnt", "pid"],
    );
    assert.equal(found.uids.split(" ")[1], String(bed.uid));
    assert.deepEqual([vm.isolationInForce?.jail, vm.isolationInForce?.uid], [false, undefined]);
  });

  test("--no-jail --no-pid-ns: QEMU is started as it is, by no launcher", async () => {
    const { found } = await foundWith("--no-jail", "--no-pid-ns");
    assert.deepEqual([found.namespaces, found.seccomp, found.coreDumps], [[], ["2"], NO_DUMPS]);
  });
});

describe("state that somebody has tampered with", () => {
  const precious = join(bed.dir, "precious");

  before(async () => {
    mkdirSync(precious);
    writeFileSync(join(precious, "file"), "keep", { mode: 0o600 });
    await bed.ok(["create", "--name", "web", "debian"]);
    await bed.ok(["stop", "web"]);
  });

  test("a disk that is a link is not started, and what it points to keeps its owner and content", async () => {
    const { paths } = await bed.vm("web");
    renameSync(paths.disk, `${paths.disk}.real`);
    symlinkSync(join(precious, "file"), paths.disk);
    const { code, stderr } = await bed.hearth(["start", "web"]);
    assert.equal(code, 1);
    // A layer on others is proven before it is given away.
    assert.match(
      stderr,
      /cannot be given to a VM: it is a symbolic link|disk\.qcow2 is not as Hearth creates it: it is not a regular file/,
    );
    const { uid, mode } = statSync(join(precious, "file"));
    assert.deepEqual([uid, mode & 0o777], [process.geteuid?.(), 0o600]);
    assert.equal(readFileSync(join(precious, "file"), "utf8"), "keep");
    assert.deepEqual([bed.vmms(), bed.launchers(), bed.uidLeases()], [[], [], []]);
    rmSync(paths.disk);
    renameSync(`${paths.disk}.real`, paths.disk);
    await bed.ok(["start", "web"]);
    await bed.ok(["stop", "web"]);
  });

  test("a jail directory that is a link goes with the VM, and what it points to stays", async () => {
    const { id } = await bed.vm("web");
    symlinkSync(precious, join(bed.dirs.state, "jails", id));
    await bed.ok(["rm", "web"]);
    assert.deepEqual(readdirSync(precious), ["file"]);
    assert.deepEqual(bed.leftovers(), []);
  });
});
