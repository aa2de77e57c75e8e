import { RESTART_POLICIES } from "#model/restart-policy.ts";
import type { RestartPolicy } from "#model/restart-policy.ts";
import type { CreateVm, SetVm } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import { parseDuration } from "#base/durations.ts";
import { formatSize, parseSize } from "#base/sizes.ts";
import { parseSnapshotName, parseVmName } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { parseLabels } from "#model/labels.ts";
import { DEFAULTS } from "#model/defaults.ts";
import { LIMITS } from "#model/limits.ts";
import { policyOf } from "#model/policy-flags.ts";
import type { PolicyFlags } from "#model/policy-flags.ts";
import { INITS, NETWORKS } from "#model/vm-spec.ts";
import type { Init, Network } from "#model/vm-spec.ts";
import { checkPrivateNetworks } from "#model/private-network.ts";
import { parsePublished } from "#model/published-port.ts";
import { parseRateLimit } from "#model/rate-limit.ts";
import { checkMounts, parseVolumeMount } from "#model/volume.ts";
import { longFlag } from "#cli/command.ts";
import type { Flags, FlagValues } from "#cli/command.ts";

const MEMORY_RANGE = `${formatSize(LIMITS.memoryMinBytes)} to ${formatSize(LIMITS.memoryMaxBytes)}`;
/** The sizes of disks and volumes, for helps: `64M to 128G`. */
export const DISK_RANGE = `${formatSize(LIMITS.diskMinBytes)} to ${formatSize(LIMITS.diskMaxBytes)}`;

/** The sizes of a VM, which `set` changes as well, without defaults. */
export const SIZE_FLAGS = {
  cpus: { value: "NUMBER", help: `Virtual CPUs, 1 to ${LIMITS.cpusMax}` },
  memory: { value: "SIZE", help: `Guest memory, ${MEMORY_RANGE}` },
  disk: { value: "SIZE", help: `Size of the writable disk, ${DISK_RANGE}` },
} as const satisfies Flags;

/** The limits of disk and network, which `set` also changes while the VM runs. */
export const LIMIT_FLAGS = {
  diskLimit: {
    value: "LIMIT",
    help: "Limit of bytes and operations of each disk, such as bw=10M/s,ops=500/s, or none",
  },
  netLimit: {
    value: "LIMIT",
    help: "Limit of each network direction, with nat, such as bw=1M/s,ops=1000/s (packets), or none",
  },
} as const satisfies Flags;

export const RESTART_FLAG = {
  restart: {
    value: "POLICY",
    choices: RESTART_POLICIES,
    help: "When to start the VM again after it ends by itself; a reboot is not an end",
  },
} as const satisfies Flags;

const LABEL = { short: "l", value: "KEY=VALUE", many: true } as const;

/** The labels of a VM. */
export const LABEL_FLAG = {
  label: { ...LABEL, help: "Label the VM, for `hearth ls --filter label=KEY`" },
} as const satisfies Flags;

/** The labels of a snapshot. */
export const SNAPSHOT_LABEL_FLAG = {
  label: { ...LABEL, help: "Label the snapshot, for `hearth snapshot ls --filter label=KEY`" },
} as const satisfies Flags;

/** The labels of a volume. */
export const VOLUME_LABEL_FLAG = {
  label: { ...LABEL, help: "Label the volume, for `hearth volume ls --filter label=KEY`" },
} as const satisfies Flags;

/** Policies that are chosen as a network: network nat, from which everything or nothing is reached. */
const PRESETS = ["allow-all", "deny-all"] as const;

/** The settings that snapshot memory is compatible with. They cannot be changed for a VM from a snapshot. */
const FIXED_FLAGS = {
  cpus: { ...SIZE_FLAGS.cpus, default: String(DEFAULTS.cpus) },
  memory: { ...SIZE_FLAGS.memory, default: formatSize(DEFAULTS.memoryBytes) },
  disk: { ...SIZE_FLAGS.disk, default: formatSize(DEFAULTS.diskBytes) },
  diskLimit: { ...LIMIT_FLAGS.diskLimit, default: "none" },
  netLimit: { ...LIMIT_FLAGS.netLimit, default: "none" },
  network: {
    value: "KIND",
    choices: [...NETWORKS, ...PRESETS],
    default: DEFAULTS.network,
    help: "Network. nat: public addresses; allow-all, deny-all: nat with this policy; user: all that the host reaches",
  },
  init: {
    value: "INIT",
    choices: INITS,
    default: "init of the image",
    help: "PID 1: the agent of Hearth, or systemd if the image has it",
  },
  nested: { help: "Enable nested virtualization: the guest gets /dev/kvm" },
  kernel: { value: "RELEASE", default: "kernel of the image", help: "Kernel, from `hearth kernel ls`" },
  bootArgs: { value: "ARGS", many: true, help: "Add kernel arguments" },
  driver: {
    value: "NAME",
    default: "firecracker if it can run the VM with KVM, else qemu",
    help: "VMM: qemu or firecracker",
  },
} as const satisfies Flags;

/** The flags that are part of a template's settings. */
export const SHAPE_FLAGS = {
  ...FIXED_FLAGS,
  noJail: { help: "Run the VMM without the jail, which gives it its own files, UID and namespaces" },
  noPidNs: { help: "Run the VMM in the PID namespace of the host" },
  noCgroup: { help: "Do not limit the CPU time, memory and tasks of the VMM" },
  noSeccomp: { help: "Do not filter the system calls of the VMM" },
} as const satisfies Flags;

/** The network policy of a VM, with network nat. */
export const POLICY_FLAGS = {
  policy: {
    value: "POLICY",
    completes: "policy",
    help: "Whole policy of network nat: internet, open, none, one of config.toml, or a .toml file",
  },
  allowCidr: {
    value: "NETWORK[:PORT]",
    many: true,
    help: "With nat, let the guest reach this network, such as 10.20.0.0/16:5432 or [2001:db8::]/32:443",
  },
  denyCidr: {
    value: "NETWORK[:PORT]",
    many: true,
    help: "With nat, deny this network, even if it is allowed; name one of IPv6, or all of IPv6 is denied",
  },
  allowDomain: {
    value: "DOMAIN[:PORT]",
    many: true,
    help: "With deny-all, let the guest reach names, such as deb.debian.org:80 or *.debian.org; /tls checks each handshake",
  },
} as const satisfies Flags;

const PUBLISH_FLAG = {
  publish: {
    short: "p",
    value: "[ADDRESS:]PORT:GUEST-PORT",
    many: true,
    help: "With nat, make a port of the guest reachable at a port of the host (default address: 127.0.0.1)",
  },
} as const satisfies Flags;

const JOIN_FLAG = {
  join: {
    value: "NAME",
    many: true,
    help: "With nat, join this private network, whose VMs reach each other as NAME.hearth",
  },
} as const satisfies Flags;

/** The flags of `run` and `create`. */
export const VM_FLAGS = {
  name: { value: "NAME", default: "generated", help: "Name of the VM" },
  ...LABEL_FLAG,
  ...SHAPE_FLAGS,
  ...POLICY_FLAGS,
  ...PUBLISH_FLAG,
  ...JOIN_FLAG,
  volume: {
    value: "NAME:/PATH[:ro]",
    many: true,
    help: "Mount an existing volume at /PATH; ro: read-only",
  },
  cold: { help: "Always boot; do not start from a template or snapshot memory" },
  noWarm: { help: "Do not build a template after the start" },
  timeout: { value: "TIME", default: "none", help: "Stop the VM after this time, such as 90s or 2h" },
  restart: { ...RESTART_FLAG.restart, default: DEFAULTS.restart },
  idleTimeout: {
    value: "TIME",
    default: "none",
    help: "Suspend the VM after this time without commands, copies and CPU use, such as 10m",
  },
} as const satisfies Flags;

/** Checks all flags before hearthd is contacted. hearthd checks them again. */
export function parseVmFlags(image: string, flags: FlagValues<typeof VM_FLAGS>): CreateVm {
  const network = flags.policy === undefined ? {} : { network: "nat" as const };
  return { image: parseImageRef(image), ...parseShape(flags), ...parseOwn(flags), ...network };
}

/** Builds the request for a VM from a snapshot, whose settings it gets. @throws HearthError `input.invalid` */
export function parseFromSnapshot(snapshot: string, flags: FlagValues<typeof VM_FLAGS>): CreateVm {
  const from = parseSnapshotName(snapshot);
  const fixed = [...Object.keys(FIXED_FLAGS), "volume"] as readonly (keyof typeof VM_FLAGS)[];
  const given = fixed.find((name) => isGiven(flags[name]));
  if (given !== undefined) {
    const hint = `Leave it out: the VM has what was saved. \`hearth snapshot show ${from}\` says what that is.`;
    throw new HearthError("input.invalid", `${longFlag(given)} cannot be given with --snapshot.`, { hint });
  }
  return { snapshot: from, ...parseShape(flags), ...parseOwn(flags) };
}

/** Reads the flags of `template build`, which describe a VM without a name, labels and volumes. */
export function parseShapeFlags(image: string, flags: FlagValues<typeof SHAPE_FLAGS>): CreateVm {
  return { image: parseImageRef(image), ...parseShape(flags) };
}

function isGiven(value: boolean | string | readonly string[] | undefined): boolean {
  return typeof value === "object" ? value.length > 0 : value !== undefined && value !== false;
}

/** Parses the flags that are not part of the template. */
function parseOwn({ name, label, volume, publish, join, ...flags }: FlagValues<typeof VM_FLAGS>): CreateVm {
  const { cold, noWarm, restart, timeout, idleTimeout } = flags;
  const range = { minMs: LIMITS.lifetimeMinMs, maxMs: LIMITS.lifetimeMaxMs };
  return {
    ...(name !== undefined && { name: parseVmName(name) }),
    ...(label.length > 0 && { labels: parseLabels(label) }),
    ...parseVolumes(volume),
    ...parsePolicy(flags),
    ...(publish.length > 0 && { publish: publish.map(parsePublished) }),
    ...(join.length > 0 && { networks: [...checkPrivateNetworks(join)] }),
    ...(cold && { cold }),
    ...(noWarm && { noWarm }),
    ...(restart !== undefined && { restart: restart as RestartPolicy }),
    ...(timeout !== undefined && { lifetimeMs: parseDuration("timeout", timeout, range) }),
    ...(idleTimeout !== undefined && { idleTimeoutMs: parseDuration("idle-timeout", idleTimeout, range) }),
  };
}

function isPreset(network: string | undefined): network is (typeof PRESETS)[number] {
  return PRESETS.some((preset) => preset === network);
}

/** The flags with the rules of a policy. */
type RuleFlags = Pick<FlagValues<typeof VM_FLAGS>, Exclude<keyof typeof POLICY_FLAGS, "policy">>;

export function hasRules({ allowCidr, denyCidr, allowDomain }: RuleFlags): boolean {
  return [allowCidr, denyCidr, allowDomain].some((texts) => texts.length > 0);
}

export function rulesOf({ allowCidr, denyCidr, allowDomain }: RuleFlags): Omit<PolicyFlags, "base"> {
  return { allow: allowCidr, deny: denyCidr, allowDomain };
}

/** Checks that a whole policy is not given together with a part of one. @throws HearthError `input.invalid` */
export function checkWholePolicy({
  network,
  policy,
  ...rules
}: Pick<FlagValues<typeof VM_FLAGS>, "network" | keyof typeof POLICY_FLAGS>): void {
  if (policy === undefined) return;
  const part =
    network === undefined || network === "nat"
      ? (["allowCidr", "denyCidr", "allowDomain"] as const).find((name) => rules[name].length > 0)
      : "network";
  if (part === undefined) return;
  const given = part === "network" ? `--network ${network}` : longFlag(part);
  throw new HearthError("input.invalid", `policy: ${given} cannot be given with --policy.`, {
    hint: "A policy of --policy is complete. Leave one of them out, or write the rules into a file.",
  });
}

/** Parses the flags of the network policy. `--policy` is read elsewhere. @throws HearthError `input.invalid` */
function parsePolicy(
  flags: Pick<FlagValues<typeof VM_FLAGS>, "network" | keyof typeof POLICY_FLAGS>,
): Pick<CreateVm, "policy"> {
  checkWholePolicy(flags);
  const { network, policy: _policy, ...rules } = flags;
  const base = isPreset(network) ? network : "internet";
  if (base === "internet" && !hasRules(rules)) return {};
  return { policy: policyOf({ base, ...rulesOf(rules) }) };
}

function parseShape(flags: FlagValues<typeof SHAPE_FLAGS>): CreateVm {
  const { network, init, nested, kernel, bootArgs, driver } = flags;
  const words = bootArgs.flatMap((text) => text.split(/\s+/).filter((word) => word !== ""));
  return {
    ...parseSizes(flags),
    ...withoutNulls(parseLimits(flags)),
    // The parser has checked both against their choices.
    ...(network !== undefined && { network: (isPreset(network) ? "nat" : network) as Network }),
    ...(init !== undefined && { init: init as Init }),
    ...(nested && { nested }),
    ...(kernel !== undefined && { kernel }),
    ...(words.length > 0 && { bootArgs: words }),
    ...(driver !== undefined && { driver }),
    ...parseIsolation(flags),
  };
}

/** Parses the isolation. Each flag turns off one part and no other. */
function parseIsolation(flags: FlagValues<typeof SHAPE_FLAGS>): Pick<CreateVm, "isolation"> {
  const isolation = {
    ...(flags.noJail && { jail: false }),
    ...(flags.noPidNs && { pidNamespace: false }),
    ...(flags.noCgroup && { cgroup: false }),
    ...(flags.noSeccomp && { seccomp: false }),
  };
  return Object.keys(isolation).length === 0 ? {} : { isolation };
}

/** Parses the limits. `none` is null: no limit. */
export function parseLimits(flags: FlagValues<typeof LIMIT_FLAGS>): Pick<SetVm, "diskLimit" | "netLimit"> {
  const { diskLimit, netLimit } = flags;
  return {
    ...(diskLimit !== undefined && { diskLimit: parseRateLimit("disk-limit", diskLimit) ?? null }),
    ...(netLimit !== undefined && { netLimit: parseRateLimit("net-limit", netLimit) ?? null }),
  };
}

/** Removes nulls: a new VM has no limit to remove. */
function withoutNulls(
  limits: Pick<SetVm, "diskLimit" | "netLimit">,
): Pick<CreateVm, "diskLimit" | "netLimit"> {
  const { diskLimit, netLimit } = limits;
  return { ...(diskLimit && { diskLimit }), ...(netLimit && { netLimit }) };
}

function parseVolumes(texts: readonly string[]): Pick<CreateVm, "volumes"> {
  const volumes = texts.map(parseVolumeMount);
  checkMounts(volumes);
  return volumes.length > 0 ? { volumes } : {};
}

export function parseSizes(
  flags: FlagValues<typeof SIZE_FLAGS>,
): Pick<CreateVm, "cpus" | "memoryBytes" | "diskBytes"> {
  const { cpus, memory, disk } = flags;
  const memoryRange = { minBytes: LIMITS.memoryMinBytes, maxBytes: LIMITS.memoryMaxBytes };
  const diskRange = { minBytes: LIMITS.diskMinBytes, maxBytes: LIMITS.diskMaxBytes };
  return {
    ...(cpus !== undefined && { cpus: parseCpus(cpus) }),
    ...(memory !== undefined && { memoryBytes: parseSize("memory", memory, memoryRange) }),
    ...(disk !== undefined && { diskBytes: parseSize("disk", disk, diskRange) }),
  };
}

function parseCpus(text: string): number {
  const cpus = Number(text);
  if (/^\d{1,4}$/.test(text) && cpus >= 1 && cpus <= LIMITS.cpusMax) return cpus;
  throw new HearthError("input.invalid", `cpus: "${text}" is not a number of CPUs.`, {
    hint: `Write a whole number from 1 to ${LIMITS.cpusMax}.`,
  });
}
