import type { Vm } from "#api/wire.ts";
import type { Host } from "#daemon/host.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { Vms } from "#daemon/vm/vms.ts";
import type { DriverFeatures } from "#drivers/vm-driver.ts";
import { DEFAULTS } from "#model/defaults.ts";
import { VM_ADDRESSES } from "#helper/vm-addresses.ts";
import { listLinkAddresses } from "#host/link-addresses.ts";
import type { VmId } from "#model/ids.ts";
import { hostLink } from "#model/inside-addresses.ts";
import { isIn } from "#model/ip-address.ts";
import { handleOf } from "#model/vm-state.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import type { VmRecord } from "#model/vm.ts";

/** The limit for a driver to report its features. */
const FEATURES_MS = 30_000;

/** The facts beside a record. */
type Known = {
  /** Whether the VM was being recovered when the record was read. */
  readonly recovering: boolean | undefined;
  /** The features of the VM's driver. */
  readonly features: DriverFeatures | undefined;
  /** The addresses of VMs on the host, by the host's ends of their networks. */
  readonly addresses: LinkAddresses;
};

type LinkAddresses = ReturnType<typeof listLinkAddresses>;

/**
 * Describes a VM as the API shows it. Takes no signal: the result of an action is reported also when it was cancelled,
 * or hearthd was stopped, just afterwards.
 */
export async function vmView(host: Host, vms: Vms, vm: VmRecord): Promise<Vm> {
  const recovering = vms.controllers.isRecovering(vm.id);
  const features = await featuresOf(host, driverNameOf(host, vm));
  return describeVm(host, vms, vm, { recovering, features, addresses: addressesFor([vm]) });
}

/** Describes many VMs, and asks each driver once: it reads files of the host for every answer. */
export async function vmViews(host: Host, vms: Vms, records: readonly VmRecord[]): Promise<Vm[]> {
  // Before anything is awaited: a recovery may end meanwhile, and the records are from before its end.
  const recovering = records.map(({ id }) => vms.controllers.isRecovering(id));
  const features = new Map<string | undefined, DriverFeatures>();
  for (const name of new Set(records.map((vm) => driverNameOf(host, vm)))) {
    const found = await featuresOf(host, name);
    if (found !== undefined) features.set(name, found);
  }
  const addresses = addressesFor(records);
  return records.map((vm, index) => {
    const known = {
      recovering: recovering[index],
      features: features.get(driverNameOf(host, vm)),
      addresses,
    };
    return describeVm(host, vms, vm, known);
  });
}

/** Reads the addresses of VMs, if any of these has a network of its own. */
function addressesFor(records: readonly VmRecord[]): LinkAddresses {
  const isReached = ({ spec, state }: VmRecord): boolean =>
    spec.network === "nat" && handleOf(state) !== undefined;
  return records.some(isReached) ? listLinkAddresses() : new Map();
}

async function featuresOf({ drivers }: Host, name: string | undefined): Promise<DriverFeatures | undefined> {
  return name === undefined ? undefined : drivers.get(name)?.features(AbortSignal.timeout(FEATURES_MS));
}

/** Returns the driver that runs the VM, or would. */
function driverNameOf(host: Host, { spec, state }: VmRecord): string | undefined {
  return handleOf(state)?.driver ?? spec.driver ?? host.drivers.keys().next().value;
}

function describeVm(host: Host, vms: Vms, vm: VmRecord, known: Known): Vm {
  const { spec, state } = vm;
  const handle = handleOf(state);
  const driver = driverNameOf(host, vm);
  return {
    id: vm.id,
    owner: vm.owner,
    name: vm.name,
    labels: { ...vm.labels },
    generation: vm.generation,
    image: spec.image,
    imageDigest: vm.imageDigest,
    phase: state.phase,
    recovering: known.recovering || undefined,
    pauseCause: state.phase === "paused" ? state.cause : undefined,
    responsive: handle === undefined ? undefined : vms.responsive(vm.id),
    cpus: spec.cpus,
    memoryBytes: spec.memoryBytes,
    diskBytes: spec.diskBytes,
    volumes: [...spec.volumes],
    diskLimit: spec.diskLimit,
    netLimit: spec.netLimit,
    network: spec.network,
    policy: spec.policy,
    publish: [...(spec.publish ?? [])],
    networks: [...(spec.networks ?? [])],
    address: known.addresses.get(hostLink(vm.id))?.find((address) => isIn(VM_ADDRESSES.network, address)),
    init: spec.init,
    nested: spec.nested,
    driver,
    accel: handle?.accel,
    kernel: spec.kernel,
    bootArgs: [...spec.bootArgs],
    env: { ...spec.env },
    user: spec.user,
    workdir: spec.workdir,
    lifetimeMs: spec.lifetimeMs,
    idleTimeoutMs: spec.idleTimeoutMs,
    autoRemove: spec.autoRemove,
    restart: spec.restart ?? DEFAULTS.restart,
    desired: vm.desired,
    restoredFrom: handle?.snapshot,
    isolation: { ...spec.isolation },
    isolationInForce: shownIsolation(handle),
    caveats: [...caveatsOf(known.features, handle), ...(handle?.isolation?.gaps ?? [])],
    guestWarnings: [...(handle?.guestWarnings ?? [])],
    createdAtMs: vm.createdAtMs,
    updatedAtMs: vm.updatedAtMs,
    lastUsedAtMs: vm.lastUsedAtMs,
    startedAtMs: "startedAtMs" in state ? state.startedAtMs : undefined,
    startStages: handle?.startStages && [...handle.startStages],
    pid: handle?.processes[0].pid,
    paths: shownPaths(host, vm.id),
    exit: state.phase === "stopped" ? state.exit : undefined,
    lastError: vm.lastError,
  };
}

function shownPaths({ dirs }: Host, id: VmId): Vm["paths"] {
  const { disk, console, vmmLog, stateDir, runDir } = vmPaths(dirs, id);
  return { disk, console, vmmLog, state: stateDir, sockets: runDir };
}

function shownIsolation(handle: VmHandle | undefined): Vm["isolationInForce"] {
  const inForce = handle?.isolation;
  if (inForce === undefined) return undefined;
  const { network, ...shown } = inForce;
  return { ...shown, networkNamespace: network.kind !== "host", gaps: [...inForce.gaps] };
}

function caveatsOf(features: DriverFeatures | undefined, handle: VmHandle | undefined): string[] {
  if (features === undefined) return [];
  return [
    ...features.caveats,
    ...(handle?.snapshot === undefined ? [] : (features.snapshots?.caveats ?? [])),
  ];
}
