import { HearthError } from "#base/error.ts";
import { DECISIONS, ruleDecision } from "#helper/policy-verdicts.ts";
import type { PrivilegedPort } from "#helper/privileged-port.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";
import type { RateLimit } from "#model/rate-limit.ts";

const FIRST_UID = 1_900_000_000;

/** Records what the helper's verbs leave on a fake host. */
export class FakeIsolation {
  readonly uids = new Map<string, number>();
  readonly cgroups = new Set<string>();
  /** The limits of networks in force, by VM. */
  readonly networkLimits = new Map<string, RateLimit>();
  /** The network policies in force, by VM. */
  readonly networks = new Map<string, NetworkPolicy>();
  /** VMs whose files belong to their uid. */
  readonly given = new Set<string>();

  readonly givenVolumes = new Map<string, string>();

  leftovers(): string[] {
    return [
      ...[...this.uids].map(([vm, uid]) => `uid ${uid} of ${vm}`),
      ...[...this.cgroups].map((vm) => `cgroup of ${vm}`),
      ...[...this.networks.keys()].map((vm) => `network of ${vm}`),
      ...[...this.given].map((vm) => `files given to ${vm}`),
      ...[...this.givenVolumes].map(([volume, vm]) => `volume ${volume} given to ${vm}`),
    ];
  }
}

/** `isRunning` tells whether a VMM of this VM is there: its uid is not given back then. */
export function fakeHelper(isolation: FakeIsolation, isRunning: (vm: string) => boolean): PrivilegedPort {
  return {
    limitations: async () => ({ uid: undefined, cgroup: undefined, network: undefined, domains: undefined }),
    async leaseUid(vm) {
      const uid = isolation.uids.get(vm) ?? FIRST_UID + isolation.uids.size;
      isolation.uids.set(vm, uid);
      return uid;
    },
    uidOf: async (vm) => isolation.uids.get(vm),
    async releaseUid(vm) {
      if (isRunning(vm)) throw new HearthError("host.uid_busy", "A process still has the uid.");
      if (isolation.cgroups.has(vm))
        throw new HearthError("host.uid_busy", "Its cgroup may still hold a process.");
      isolation.uids.delete(vm);
    },
    giveFiles: async (vm) => void (isolation.uids.has(vm) && isolation.given.add(vm)),
    giveVolume: async (vm, volume) => void (isolation.uids.has(vm) && isolation.givenVolumes.set(volume, vm)),
    takeVolume: async (_vm, volume) => void isolation.givenVolumes.delete(volume),
    async runTool() {
      throw new Error("A fake host has fake disks.");
    },
    async sealRunDir() {},
    async sealMemory() {},
    takeFiles: async (vm) => void isolation.given.delete(vm),
    async makeCgroup(vm) {
      isolation.cgroups.add(vm);
      return `/sys/fs/cgroup/hearth/${vm}`;
    },
    cgroupOf: async (vm) => (isolation.cgroups.has(vm) ? `/sys/fs/cgroup/hearth/${vm}` : undefined),
    async launchVmm() {
      throw new Error("The VMMs of a fake host are started by its driver.");
    },
    endVmm: async () => undefined,
    findIsolationFaults: async () => [],
    async giveMemoryCopy() {},
    async giveMemoryBase() {},
    removeCgroup: async (vm) => void isolation.cgroups.delete(vm),
    ...networkVerbs(isolation),
    removeJail: async () => {},
    listLeases: async () => [...isolation.uids.keys()],
    listCgroups: async () => [...isolation.cgroups],
    listJails: async () => [],
  };
}

function networkVerbs(
  isolation: FakeIsolation,
): Pick<
  PrivilegedPort,
  | "makeNetwork"
  | "setNetworkPolicy"
  | "setNetworkLimit"
  | "readNetworkRules"
  | "removeNetwork"
  | "listNetworks"
> {
  return {
    async makeNetwork(vm, { policy, limit = {} }) {
      if (!isolation.uids.has(vm)) throw new HearthError("input.invalid", "It has no uid.");
      isolation.networks.set(vm, policy);
      isolation.networkLimits.set(vm, limit);
    },
    async setNetworkPolicy(vm, { policy }) {
      policyOf(isolation, vm);
      isolation.networks.set(vm, policy);
    },
    async setNetworkLimit(vm, limit) {
      policyOf(isolation, vm);
      isolation.networkLimits.set(vm, limit);
    },
    async readNetworkRules(vm, what) {
      const { rules } = policyOf(isolation, vm);
      if (what === "rules") return "table inet hearth { }\n";
      const decisions = [...Object.values(DECISIONS), ...rules.map((_, index) => ruleDecision(index))];
      const elem = decisions.map((val) => ({ elem: { val, counter: { packets: 0, bytes: 0 } } }));
      return JSON.stringify({ nftables: [{ set: { elem } }] });
    },
    removeNetwork: async (vm) => void isolation.networks.delete(vm),
    listNetworks: async () => [...isolation.networks.keys()],
  };
}

function policyOf(isolation: FakeIsolation, vm: string): NetworkPolicy {
  const policy = isolation.networks.get(vm);
  if (policy === undefined) throw new HearthError("input.invalid", "It has no network.");
  return policy;
}
