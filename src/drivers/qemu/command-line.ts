/** Builds QEMU's command line in one pure function. It contains no secrets: other processes can read it. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { QEMU_SOCKETS } from "#base/file-names.ts";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import type { JailFile } from "#jail/jail-command.ts";
import { MEMORY_ID, memoryArguments } from "#drivers/qemu/guest-memory.ts";
import type { MemoryFile } from "#drivers/qemu/guest-memory.ts";
import type { QemuFirmware } from "#drivers/qemu/installed-qemu.ts";
import type { BootPlan, DiskPlan } from "#drivers/vm-driver.ts";
import { blockNode } from "#host/block-node.ts";
import type { BlockAccess, BlockLayer } from "#host/block-node.ts";
import { invariant } from "#base/error.ts";
import { parseVmId, parseVmName } from "#model/ids.ts";
import type { NicPlan } from "#model/nic.ts";

/** The inputs of the command line besides the plan. */
export type QemuMachine = {
  readonly accel: "kvm" | "tcg";
  readonly firmware: QemuFirmware;
  /** The rate of the host's time stamp counter, which an emulated guest sees as its own. */
  readonly tscKhz: number | undefined;
  /** A file for the guest's memory, when a VM is restored or a save is verified. */
  readonly memory?: MemoryFile | undefined;
  /** The file that QEMU loads the VM from, as its stdin. */
  readonly incoming?: string | undefined;
};

export type QemuSockets = { readonly monitor: string; readonly console: string; readonly agent: string };

/** Returns the socket to which a QEMU with this run directory sends a VM while it is saved. */
export function migrationSocket(runDir: string): string {
  return join(runDir, QEMU_SOCKETS.migration);
}

/** The name that the agent looks for under /sys/class/virtio-ports. */
export const AGENT_PORT = "hearth.agent";

/** All groups of system calls that QEMU can do without. */
const SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

export const BALLOON_ID = "balloon";

/** Names the device of a disk, so that a hearthd that was restarted recognizes it without the plan. */
function diskDeviceId(id: string): string {
  return `disk-${id}`;
}

const DISK_DEVICE = /(?:^|\/)disk-([a-z0-9-]+)(?:$|\/)/;
/** The VM's disks in the QEMU of an older hearthd, which limited all of them alike. */
const OLDER_OWN_DISK = /(?:^|\/)own\d+(?:$|\/)/;

/**
 * Returns the id of the disk of a device, or `older` for a disk of the VM in the QEMU of an older hearthd.
 * @param qdev the device's id, or the path of the part of it that has the disk, from QEMU's query-block
 */
export function diskOfDevice(qdev: string): { readonly id: string } | "older" | undefined {
  const id = DISK_DEVICE.exec(qdev)?.[1];
  if (id !== undefined) return { id };
  return OLDER_OWN_DISK.test(qdev) ? "older" : undefined;
}

/** Returns the sockets on which a QEMU with this run directory listens. */
export function qemuSockets(runDir: string): QemuSockets {
  return {
    monitor: join(runDir, QEMU_SOCKETS.monitor),
    console: join(runDir, QEMU_SOCKETS.console),
    agent: join(runDir, QEMU_SOCKETS.agent),
  };
}

/** Returns the host's files that QEMU needs to run this plan. */
export function qemuFiles(plan: BootPlan, machine: QemuMachine): JailFile[] {
  return [
    ...kernelFiles(plan, machine).map(([, path]) => ({ path, access: "read" }) as const),
    { path: machine.firmware.qboot, access: "read" },
    ...plan.disks.map(({ path, readOnly }) => ({ path, access: readOnly ? "read" : "write" }) as const),
    ...plan.disks.flatMap(({ backing = [] }) => backing.map((path) => ({ path, access: "read" }) as const)),
    { path: plan.runDir, access: "write" },
    ...memoryFiles(plan, machine),
    ...(machine.accel === "kvm" ? [{ path: "/dev/kvm", access: "device" } as const] : []),
    ...(plan.nics.some(({ attach }) => attach.kind === "tap")
      ? [{ path: TUN_DEVICE, access: "device" } as const]
      : []),
  ];
}

/**
 * Returns the guest memory file, and how QEMU may access it. A draft is created in the save directory; a shared file is
 * read-only.
 */
function memoryFiles(plan: BootPlan, { memory }: QemuMachine): JailFile[] {
  if (memory === undefined) return [];
  if (memory.map === "shared") return [{ path: memory.path, access: "read" }];
  if (memory.map === "own") return [{ path: memory.path, access: "write" }];
  invariant(plan.saveDir !== undefined, "what is saved has a directory");
  return [{ path: plan.saveDir, access: "write" }];
}

/**
 * Tells whether QEMU gets the kernel's files. A restored guest has its kernel in its memory, and never boots again:
 * `-no-reboot`. QEMU would read the files all the same. But a machine with a PCI bus saves the device that loads them,
 * and a machine without that device cannot be restored from it.
 */
function bootsKernel(plan: BootPlan, { incoming }: QemuMachine): boolean {
  return incoming === undefined || plan.nested;
}

/** Returns the kernel's files by their options. */
function kernelFiles(plan: BootPlan, machine: QemuMachine): (readonly [option: string, path: string])[] {
  if (!bootsKernel(plan, machine)) return [];
  return [
    ["-kernel", plan.kernel],
    ["-initrd", plan.initramfs],
  ];
}

/**
 * Returns the arguments without the program's name. QEMU starts with paused vCPUs (`-S`), so that the console is read
 * from its first byte on.
 */
export function qemuArguments(plan: BootPlan, machine: QemuMachine): string[] {
  const sockets = qemuSockets(plan.runDir);
  const device: DeviceName = (kind) => `virtio-${kind}-${plan.nested ? "pci" : "device"}`;
  return [
    ["-name", `guest=${escapeValue(plan.id)}`],
    ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S"],
    plan.isolation.seccomp ? ["-sandbox", SANDBOX] : [],
    machine.firmware.dataDirs.flatMap((dir) => ["-L", dir]),
    machineArguments(plan, machine),
    ...kernelFiles(plan, machine).map(([option, path]) => [option, path]),
    bootsKernel(plan, machine) ? ["-append", kernelCommandLine(plan, machine)] : [],
    socketArguments("qmp", sockets.monitor),
    ["-mon", "chardev=qmp,mode=control"],
    socketArguments("console", sockets.console),
    ["-serial", "chardev:console"],
    socketArguments("agent", sockets.agent),
    ["-device", device("serial"), "-device", `virtserialport,chardev=agent,name=${AGENT_PORT}`],
    ...plan.disks.map((disk, index) => diskArguments(disk, index, device)),
    ["-object", "rng-random,id=rng,filename=/dev/urandom", "-device", `${device("rng")},rng=rng`],
    // A guest that runs out of memory takes memory back from the balloon before it kills a program.
    ["-device", `${device("balloon")},id=${BALLOON_ID},deflate-on-oom=on`],
    ...plan.nics.map((nic) => nicArguments(nic, device)),
    machine.incoming === undefined ? [] : ["-incoming", "defer"],
  ].flat();
}

/** The revision of what Hearth makes of a QEMU's stream; 2: with the clock that KVM gave the guest. */
const SAVED_REVISION = 2;

/**
 * Returns a text that changes with every change of the machine that Hearth builds: a VM state file of one machine
 * cannot be loaded into another, and QEMU would not always notice.
 */
export function machineRevision(accel: QemuMachine["accel"]): string {
  const machine: QemuMachine = { accel, tscKhz: ANY_KHZ, firmware: ANY_FIRMWARE };
  const both = [false, true].map((nested) =>
    qemuArguments({ ...ANY_PLAN, nested }, machine).map((text) =>
      text.startsWith("tap,") ? ANY_NETWORK : text,
    ),
  );
  return createHash("sha256")
    .update(JSON.stringify([SAVED_REVISION, both]))
    .digest("hex")
    .slice(0, 8);
}

/** The other end of a card is no part of the machine. It has had this text from the beginning. */
const ANY_NETWORK = "user,id=net-any,ipv6=off";
const ANY_KHZ = 1;
const ANY_FIRMWARE: QemuFirmware = { qboot: "/qboot.rom", dataDirs: [] };
const ANY_PLAN: BootPlan = {
  id: parseVmId("vm-aaaaaaaaaaaa"),
  name: parseVmName("any"),
  stateDir: "/",
  runDir: "/",
  kernel: "/kernel",
  initramfs: "/initramfs",
  kernelArgs: [],
  disks: [{ id: "any", path: "/disk", format: "qcow2", readOnly: false }],
  cpus: 1,
  memoryBytes: 1,
  nics: [{ id: "any", mac: "02:00:00:00:00:01", attach: { kind: "tap", name: "any" } }],
  init: "agent",
  nested: false,
  isolation: NO_ISOLATION,
};

/** Opened to attach to a TAP device, by the user that owns it. */
const TUN_DEVICE = "/dev/net/tun";

/** Returns the name of a virtio device on the machine's PCI bus, or on a machine without one (virtio-mmio). */
type DeviceName = (kind: "serial" | "blk" | "rng" | "net" | "balloon") => string;

/** Keeps the host's kernel from merging equal pages of several guests, and guest memory out of core dumps. */
const PRIVATE_MEMORY = "mem-merge=off,dump-guest-core=off";
/** A guest without nested VMs does not reach KVM's nesting code; the models `host` and `max` would both offer it. */
const NO_NESTING = "vmx=off,svm=off";
/**
 * The highest extended CPUID function of an emulated CPU. Without SVM, QEMU 7.2 announces so few functions that the
 * guest cannot read its address sizes (function 0x80000008). Debian's kernel 6.1 then takes its own addresses for
 * invalid: /proc/self/mounts shows x's for names, and systemd believes that none of its mounts succeeded.
 */
const ADDRESS_SIZES = "xlevel=0x80000008";

function machineArguments(plan: BootPlan, machine: QemuMachine): string[] {
  const memory = memoryArguments(plan.memoryBytes, machine.memory);
  const size = ["-m", `size=${plan.memoryBytes}B`, ...memory, "-smp", String(plan.cpus)];
  if (plan.nested) {
    // The machine that KVM's nesting is used on. EPYC is the smallest model that QEMU emulates with SVM.
    const cpu = machine.accel === "kvm" ? "host" : "EPYC,+svm,+npt";
    const q35 = `q35,memory-backend=${MEMORY_ID},${PRIVATE_MEMORY}`;
    return ["-M", q35, "-accel", acceleratorOf(machine), "-cpu", cpu, ...size];
  }
  return [
    // Virtio devices are announced through ACPI: Debian's cloud kernel does not read them from its command line.
    // Without pit and pic that kernel finds no timer in emulation.
    ["-M", `microvm,acpi=on,pit=on,pic=on,rtc=on,memory-backend=${MEMORY_ID},${PRIVATE_MEMORY}`],
    ["-bios", machine.firmware.qboot],
    ["-accel", acceleratorOf(machine)],
    ["-cpu", machine.accel === "kvm" ? `host,${NO_NESTING}` : `max,${NO_NESTING},${ADDRESS_SIZES}`],
    size,
    ["-global", "virtio-mmio.force-legacy=false"],
  ].flat();
}

function acceleratorOf(machine: QemuMachine): string {
  return machine.accel === "kvm" ? "kvm" : "tcg,thread=multi";
}

/**
 * Returns the kernel's arguments. The user's come last: the kernel takes the last of two that contradict each other.
 */
export function kernelCommandLine(
  { kernelArgs, nested }: Pick<BootPlan, "kernelArgs" | "nested">,
  machine: QemuMachine,
): string {
  const fixed = ["console=ttyS0", "quiet", "reboot=t", "panic=-1", "random.trust_cpu=on"];
  if (machine.accel === "tcg" && machine.tscKhz !== undefined) {
    // Emulated, the kernel's own measuring of the counter fails at times, and the boot hangs after it.
    fixed.push(`tsc_early_khz=${machine.tscKhz}`);
    // A microvm has no timer to compare the counter with, so the kernel would count its ticks instead. QEMU does not
    // make up for late ticks: a busy guest lost 24 s of 60. Timers keep a resolution of 4 ms: the code of finer ones
    // would be translated in each warm start.
    if (!nested) fixed.push("tsc=reliable", "highres=off");
  }
  return [...fixed, ...kernelArgs].join(" ");
}

function socketArguments(id: string, path: string): string[] {
  return ["-chardev", `socket,id=${id},path=${escapeValue(path)},server=on,wait=off`];
}

/**
 * Returns the arguments of a disk. Writes go to the page cache, and to the disk itself when the guest flushes: what the
 * guest has synced is safe. On a full host disk QEMU pauses the VM, and retries the write when it is resumed. Any other
 * failure is an I/O error in the guest, whose file system handles it.
 */
function diskArguments(disk: DiskPlan, index: number, device: DeviceName): string[] {
  const access: BlockAccess = disk.readOnly ? { "read-only": true } : { discard: "unmap" };
  const chain = [...backingOf(disk), { path: disk.path, format: disk.format }];
  const node = { "node-name": `disk${index}`, ...blockNode(chain, access) };
  const named = `id=${diskDeviceId(disk.id)},serial=${escapeValue(disk.id)}`;
  const card = `${device("blk")},${named},drive=disk${index},werror=enospc,rerror=report`;
  return ["-blockdev", JSON.stringify(node), "-device", card];
}

/** Returns the backing files; the extension of each is its format. */
function backingOf({ backing = [] }: DiskPlan): BlockLayer[] {
  return backing.map((path) => ({ path, format: path.endsWith(".raw") ? "raw" : "qcow2" }));
}

/** Returns the arguments of a NIC. */
function nicArguments({ id, mac, attach }: NicPlan, device: DeviceName): string[] {
  const options = `tap,id=net-${id},ifname=${attach.name},script=no,downscript=no`;
  return ["-netdev", options, "-device", `${device("net")},id=nic-${id},netdev=net-${id},mac=${mac}`];
}

/** Escapes a value of an option: QEMU splits options at commas, and a doubled comma stands for one. */
function escapeValue(text: string): string {
  invariant(!text.includes("\0"), "nothing on a command line holds a zero byte");
  return text.replaceAll(",", ",,");
}
