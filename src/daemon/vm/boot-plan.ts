import { createHash } from "node:crypto";
import { GIB } from "#base/sizes.ts";
import { bootIsolation } from "#daemon/vm/vm-isolation.ts";
import type { Host } from "#daemon/host.ts";
import { vmDisks } from "#daemon/vm/boot-disks.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { BootPlan, DiskPlan, DriverFeatures } from "#drivers/vm-driver.ts";
import type { GuestIdentity } from "#guest/agent-client.ts";
import { sizeOf } from "#host/bounded-file.ts";
import { hasIpv6Peer } from "#host/ipv6-routes.ts";
import type { VmId } from "#model/ids.ts";
import { hostLink } from "#model/inside-addresses.ts";
import type { VmRecord } from "#model/vm.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import { planNetwork } from "#network/vm-network.ts";

/** Returns the machine that the VMM is to run. Verifies the image's files. */
export async function bootPlan(
  host: Host,
  vm: VmRecord,
  features: Pick<DriverFeatures, "kernelFormat" | "diskSerials">,
  signal: AbortSignal,
): Promise<BootPlan> {
  const { spec } = vm;
  const paths = vmPaths(host.dirs, vm.id);
  const boot = await host.images.bootSet(vm.imageDigest, { kernel: spec.kernel }, signal);
  const { disks, kernelArgs } = vmDisks(host, vm, boot, features);
  const { nics, namespace } = planNetwork(spec, vm.id);
  return {
    id: vm.id,
    name: vm.name,
    stateDir: paths.stateDir,
    runDir: paths.runDir,
    kernel:
      features.kernelFormat === "elf"
        ? await host.images.kernelElf(vm.imageDigest, { kernel: spec.kernel }, signal)
        : boot.kernel,
    initramfs: boot.initramfs,
    kernelArgs: [
      "hearth.root=overlay",
      `hearth.init=${spec.init}`,
      `hearth.vm=${vm.name}`,
      ...kernelArgs,
      // Needed for an image without a machine id: systemd makes one up before any program of the guest could write this
      // one.
      ...(spec.init === "systemd" ? [`systemd.machine_id=${machineId(vm.id)}`] : []),
      ...spec.bootArgs,
    ],
    disks,
    cpus: spec.cpus,
    memoryBytes: spec.memoryBytes,
    nics,
    init: spec.init,
    nested: spec.nested,
    fileMaxBytes: fileMaxBytes(spec, disks),
    isolation: await bootIsolation(host, vm, namespace),
    saveDir: paths.saveDir,
  };
}

/**
 * The size of the largest file that the VMM writes: disks, and the guest memory file. The tables of a qcow2 add less
 * than a thousandth.
 */
function fileMaxBytes({ diskBytes, memoryBytes }: VmSpec, disks: readonly DiskPlan[]): number {
  const sizes = disks.filter(({ readOnly }) => !readOnly).map(({ path }) => sizeOf(path));
  const largest = Math.max(diskBytes, memoryBytes, ...sizes);
  return largest + Math.ceil(largest / 64) + GIB;
}

/** Mixed into the guest's random generator, so that no two guests begin alike. */
const ENTROPY_BYTES = 64;
/** No name is shorter, so that the files in which the next name is written never have to be truncated. */
const INTERNAL_HOSTNAME = "h";

/**
 * Returns the guest's identity: its name, clock, entropy, machine-id, network, volumes, and the defaults of its
 * commands.
 * @param handle of the VMM that runs it
 * @param restored true if the guest comes from another VM's snapshot, and becomes this VM now
 */
export async function guestIdentity(
  host: Host,
  vm: VmRecord,
  handle: Pick<VmHandle, "diskSerials">,
  restored: boolean,
  signal: AbortSignal,
): Promise<GuestIdentity> {
  const boot = await host.images.bootSet(vm.imageDigest, { kernel: vm.spec.kernel }, signal);
  const { config } = boot;
  const { spec } = vm;
  const { guest, nics } = planNetwork(spec, vm.id);
  // Without it, programs of the guest do not even try IPv6.
  const hasIpv6 = hasIpv6Peer(hostLink(vm.id));
  return {
    hostname: spec.internal === undefined ? vm.name : INTERNAL_HOSTNAME,
    unixTimeMs: host.now(),
    entropy: host.random(ENTROPY_BYTES),
    machineId: machineId(vm.id),
    // A guest that booted has its card's address; one that was restored has the address of the source VM.
    network: guest && {
      ...guest,
      ipv6: hasIpv6 ? guest.ipv6 : undefined,
      mac: restored ? nics[0]?.mac : undefined,
    },
    env: { ...config.env, ...spec.env },
    user: spec.user ?? config.user,
    workdir: spec.workdir ?? config.workdir,
    command: [...(config.entrypoint ?? []), ...(config.cmd ?? [])],
    mounts: vmDisks(host, vm, boot, handle).mounts,
    restored,
  };
}

/** Returns a machine-id(5): 32 hex digits, equal at every start of a VM, and different for every VM. */
function machineId(id: VmId): string {
  return createHash("sha256").update(`machine-id of ${id}`).digest("hex").slice(0, 32);
}
