/** Real processes with the isolation of a VMM, and what the kernel reports of them. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { isolationInForce, NO_ISOLATION } from "#drivers/boot-isolation.ts";
import type { BootIsolation } from "#drivers/boot-isolation.ts";
import { isolationFaults } from "#jail/isolation-faults.ts";
import { launchBlocked, launchVmm } from "#jail/launch-vmm.ts";
import { OPEN_ANYWHERE, OpenStdio } from "#jail/open-stdio.ts";
import type { PrepareVmm, VmmLaunch } from "#jail/vmm-launch.ts";
import { StartingVmm } from "#drivers/starting-vmm.ts";
import { readTail } from "#host/bounded-file.ts";
import { findProcess } from "#host/procfs.ts";
import type { IsolationInForce } from "#model/isolation.ts";

const UID = 1_970_000_000;
const isRoot = process.geteuid?.() === 0;
const JAILED: BootIsolation = {
  ...NO_ISOLATION,
  jail: true,
  pidNamespace: true,
  seccomp: false,
  uid: isRoot ? UID : undefined,
};
const CHOICES: Readonly<Record<string, BootIsolation>> = {
  "in a jail": JAILED,
  "in a pid namespace alone": { ...JAILED, jail: false, uid: undefined },
  "without a launcher": { ...NO_ISOLATION, seccomp: false },
};

function optionsIn(dir: string): VmmLaunch {
  return {
    program: "sleep",
    args: ["1000"],
    files: [],
    fileMaxBytes: 1024 ** 3,
    logFile: join(dir, "log"),
    vmId: "vm-aaaaaaaaaaaa",
  };
}

/** Starts a program that waits, in place of a VMM; it runs when this resolves. */
async function launch(t: TestContext, isolation: BootIsolation, prepare: PrepareVmm = async () => {}) {
  const dir = mkdtempSync(join(tmpdir(), "hearth-launch-"));
  const options = optionsIn(dir);
  using stdio = new OpenStdio(options, OPEN_ANYWHERE);
  const inForce = isolationInForce(isolation);
  const findFaults = isolation.findFaults.bind(isolation);
  const launched = {
    ...(await launchVmm(options, stdio, isolation, prepare, t.signal)),
    inForce,
    findFaults,
    end: NO_ISOLATION.end,
  };
  const vmm = new StartingVmm("The program", launched, () => readFileSync(options.logFile, "utf8"));
  t.after(async () => {
    await vmm.kill();
    rmSync(dir, { recursive: true });
  });
  const { pid } = vmm.process;
  while (readFileSync(`/proc/${pid}/comm`, "utf8") !== "sleep\n") await new Promise(setImmediate);
  return { vmm, pid, dir, inForce };
}

for (const [how, isolation] of Object.entries(CHOICES)) {
  test(`a VMM ${how} is isolated as it was started, and its core dump has no guest memory`, async (t) => {
    const { vmm, pid, inForce } = await launch(t, isolation);
    await vmm.confirmIsolation({ seccomp: true });
    assert.deepEqual(isolationFaults(vmm.process, inForce, { seccomp: true }), []);
    assert.match(readFileSync(`/proc/${pid}/limits`, "utf8"), /^Max core file size +0 +0 /m);
    assert.match(readFileSync(`/proc/${pid}/coredump_filter`, "utf8"), /^0+\n$/);
  });
}

test("a VMM joins an existing network namespace with any choice of isolation, and keeps its pid", async (t) => {
  if (!isRoot) return t.skip("joining a namespace takes root");
  const { pid: holder } = await launch(t, JAILED);
  const network = { kind: "join", path: `/proc/${holder}/ns/net` } as const;
  const joined = readlinkSync(network.path);
  assert.notEqual(joined, readlinkSync("/proc/self/ns/net"));
  for (const isolation of Object.values(CHOICES)) {
    const { vmm, pid, inForce } = await launch(t, { ...isolation, network });
    assert.equal(readlinkSync(`/proc/${pid}/ns/net`), joined);
    assert.deepEqual(inForce.network, network);
    await vmm.confirmIsolation({ seccomp: true });
  }
  const { vmm, inForce } = await launch(t, JAILED);
  assert.deepEqual(isolationFaults(vmm.process, { ...inForce, network }, { seccomp: true }), [
    `it is not in the network namespace ${network.path}`,
  ]);
});

test("a launcher that does not tell the VMM's pid in time is ended, with all its children", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "hearth-launch-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const script = `sh -c 'trap "" TERM HUP; echo $$ > ${dir}/child; sleep 1000' & wait`;
  t.mock.timers.enable({ apis: ["setTimeout"] });
  using stdio = new OpenStdio(optionsIn(dir), OPEN_ANYWHERE);
  const launched = launchBlocked(
    { ...stdio, dir: "/", vmId: "vm-aaaaaaaaaaaa" },
    ["sh", "-c", script],
    async () => {},
  );
  const child = (): number => Number(/^\d+(?=\n)/.exec(readTail(join(dir, "child"), 100))?.[0]);
  while (!(child() > 1)) await new Promise(setImmediate);
  assert.ok(findProcess(child()), "the launcher has a child");
  t.mock.timers.tick(30_000);
  t.mock.timers.reset();
  await assert.rejects(launched, { code: "vmm.unresponsive" });
  assert.equal(findProcess(child()), undefined);
});

describe("a VMM that is not isolated as it should be", () => {
  const all: IsolationInForce = {
    jail: true,
    uid: UID,
    pidNamespace: true,
    network: { kind: "own" },
    seccomp: true,
    gaps: [],
  };

  test("is reported with everything that is missing", async (t) => {
    const { vmm } = await launch(t, CHOICES["without a launcher"] ?? NO_ISOLATION);
    const faults = isolationFaults(vmm.process, all, { seccomp: true });
    const shared = ["mnt", "ipc", "uts", "cgroup", "pid", "net"];
    assert.match(faults.join("\n"), new RegExp(`its Uid is .*, not ${UID}\n.*its Gid is`));
    for (const name of shared) assert.ok(faults.includes(`it shares the ${name} namespace of hearthd`), name);
    assert.ok(faults.includes("1 of its 1 threads may make any system call"));
    assert.ok(faults.includes("it may gain privileges (NoNewPrivs is not set)"));
    if (isRoot) assert.match(faults.join("\n"), /it has capabilities \(CapEff /);
  });

  test("is not reported for a system call filter that it has not loaded yet", async (t) => {
    const { vmm, inForce } = await launch(t, JAILED);
    const wanted = { ...inForce, seccomp: true };
    assert.deepEqual(isolationFaults(vmm.process, wanted, { seccomp: false }), []);
    // bubblewrap loads none: the program has to.
    assert.equal(isolationFaults(vmm.process, wanted, { seccomp: true }).length, 1);
  });

  test("does not run a guest outside of its cgroup, and the error names the cgroup it is in", async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "hearth-cgroup-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const cgroup = join(dir, "vm-aaaaaaaaaaaa");
    mkdirSync(cgroup);
    const procs = join(cgroup, "cgroup.procs");
    const { vmm, pid } = await launch(t, { ...JAILED, cgroup }, async (process) =>
      writeFileSync(procs, `1\n${process.pid}\n`),
    );
    await vmm.confirmIsolation({ seccomp: true });
    writeFileSync(procs, `1\n${pid}0\n`);
    await assert.rejects(vmm.confirmIsolation({ seccomp: true }), {
      code: "vmm.not_isolated",
      message:
        /The program is not isolated as it should be: it is in the cgroup \/\S*, not in \S+\/vm-aaaaaaaaaaaa\./,
    });
    await vmm.kill();
    await vmm.confirmIsolation({ seccomp: true }); // Its end is reported elsewhere.
  });
});
