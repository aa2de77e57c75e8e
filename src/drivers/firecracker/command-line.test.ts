import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { firecrackerConfig } from "#drivers/firecracker/boot-config.ts";
import { firecrackerArguments, firecrackerJailFiles } from "#drivers/firecracker/command-line.ts";
import type { FirecrackerStart } from "#drivers/firecracker/command-line.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";

const PLAN: BootPlan = {
  id: vmIdFrom(new Uint8Array(12)),
  name: parseVmName("web"),
  stateDir: "/state",
  runDir: "/run/with blank, $(and more)",
  kernel: "/vmlinux",
  initramfs: "/initrd",
  kernelArgs: [],
  disks: [
    { id: "base", path: "/base.ext4", format: "raw", readOnly: true },
    { id: "own", path: "/disk.raw", format: "raw", readOnly: false },
  ],
  cpus: 1,
  memoryBytes: 2 ** 28,
  nics: [],
  init: "agent",
  nested: false,
  isolation: NO_ISOLATION,
};

function withSeccomp(seccomp: boolean): BootPlan {
  return { ...PLAN, isolation: { ...NO_ISOLATION, seccomp } };
}

describe("Firecracker's command line", () => {
  test("each path is one argument, whatever is in it", () => {
    const words = firecrackerArguments(PLAN, { byJailer: true });
    assert.equal(words[words.indexOf("--api-sock") + 1], "/run/with blank, $(and more)/api.sock");
  });

  test("has the id unless the jailer adds it", () => {
    assert.equal(firecrackerArguments(PLAN, { byJailer: true }).includes("--id"), false);
    assert.deepEqual(firecrackerArguments(PLAN, { byJailer: false }).slice(0, 2), ["--id", PLAN.id]);
  });

  test("has Firecracker's own filter unless another is named, and none only on request", () => {
    const seccompWords = (seccomp: boolean, seccompFilter?: string): string[] =>
      firecrackerArguments(withSeccomp(seccomp), { byJailer: true, seccompFilter }).filter((word) =>
        /seccomp|bpf/.test(word),
      );
    assert.deepEqual(seccompWords(true), []);
    assert.deepEqual(seccompWords(true, "/my.bpf"), ["--seccomp-filter", "/my.bpf"]);
    assert.deepEqual(seccompWords(false, "/my.bpf"), ["--no-seccomp"]);
  });
});

function shown(plan: BootPlan, start: FirecrackerStart): string[] {
  return firecrackerJailFiles(plan, start).map(({ path, access, at }) =>
    [path, access, ...(at === undefined ? [] : [`at ${at}`])].join(" "),
  );
}

test("a jail shows Firecracker the VM's files, the filter, and KVM where the jailer does not make it", () => {
  assert.deepEqual(shown(PLAN, { byJailer: false, seccompFilter: "/my.bpf" }), [
    "/vmlinux read",
    "/initrd read",
    "/my.bpf read",
    "/base.ext4 read",
    "/disk.raw write",
    `${PLAN.runDir} write`,
    `${PLAN.runDir} write at /vm`,
    "/dev/kvm device",
  ]);
  assert.equal(
    firecrackerJailFiles(PLAN, { byJailer: true }).some(({ access }) => access === "device"),
    false,
  );
});

test("a jail shows the save directory for writing, and the snapshot for reading only", () => {
  const saved = { memory: "/saved/memory", state: "/saved/state" };
  assert.deepEqual(shown({ ...PLAN, disks: [], saveDir: "/save" }, { byJailer: true, saved }), [
    "/saved/memory read",
    "/saved/state read",
    `${PLAN.runDir} write`,
    `${PLAN.runDir} write at /vm`,
    "/save write",
  ]);
});

test("the paths in a VM state file are equal for all VMs, and none is a path of the host", () => {
  const other: BootPlan = {
    ...PLAN,
    runDir: "/elsewhere",
    disks: PLAN.disks.map((disk) => ({ ...disk, path: `/elsewhere${disk.path}` })),
  };
  const [one, two] = [PLAN, other].map((plan) => {
    const { drives, vsock } = firecrackerConfig(plan);
    return { drives, vsock };
  });
  assert.deepEqual(one, two);
});

test("a card is a TAP device in the network namespace, which Firecracker opens itself where no jailer makes it", () => {
  const nics = [{ id: "net0", mac: "02:00:00:00:00:0a", attach: { kind: "tap", name: "tap0" } }] as const;
  const plan: BootPlan = { ...PLAN, nics };
  assert.deepEqual(firecrackerConfig(plan).networkInterfaces, [
    { ifaceId: "net0", guestMac: "02:00:00:00:00:0a", hostDevName: "tap0" },
  ]);
  assert.equal(shown(plan, { byJailer: false }).at(-1), "/dev/net/tun device");
  assert.deepEqual(firecrackerConfig(PLAN).networkInterfaces, []);
});

test("a guest sees no hardware virtualization", () => {
  const bits = (firecrackerConfig(PLAN).cpuConfig?.cpuidModifiers ?? []).map(({ leaf, modifiers }) => {
    const [{ register, bitmap } = { register: "", bitmap: "" }] = modifiers;
    assert.equal(bitmap.length, "0b".length + 32);
    return [leaf, register, bitmap.length - 1 - bitmap.lastIndexOf("0")];
  });
  assert.deepEqual(bits, [
    ["0x1", "ecx", 5], // VMX
    ["0x80000001", "ecx", 2], // SVM
  ]);
});
