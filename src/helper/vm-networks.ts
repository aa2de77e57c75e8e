/**
 * Makes and removes the network namespaces of VMs, and changes what is in force there. The namespace is a file in one
 * directory of the host. The kernel keeps the lease of an address: a second route to it is refused.
 */
import { createHash, randomInt } from "node:crypto";
import { chmodSync, existsSync, readdirSync, statSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { allEnded } from "#base/all-ended.ts";
import { failAfter } from "#base/clean-up.ts";
import { HearthError } from "#base/error.ts";
import {
  checkEnforced,
  checkLimit,
  checkNetwork,
  hasResolver,
  namesOf,
} from "#helper/check-guest-network.ts";
import type { GuestNetworks } from "#helper/guest-networks.ts";
import { privateSubnet } from "#helper/private-subnets.ts";
import type { HelperRoots } from "#helper/helper-roots.ts";
import { bandwidthCommand, guestProgram, packetLimitProgram, publishProgram } from "#helper/nft-program.ts";
import type { EnforcedPolicy, GuestNetwork } from "#helper/nft-program.ts";
import { NameResolver } from "#helper/name-resolver.ts";
import { NetnsProgram, publishTable, TOOL_MS } from "#helper/netns-program.ts";
import { POLICY_TABLE, policyProgram } from "#helper/policy-program.ts";
import { UPLINK, VM_ADDRESSES } from "#helper/vm-addresses.ts";
import { COUNTED_SET, POLICY_NUMBER_MAX } from "#helper/policy-verdicts.ts";
import type { NetworkListing } from "#helper/privileged-port.ts";
import { hasIpv6, hasIpv6Peer } from "#host/ipv6-routes.ts";
import { newLinksHave6 } from "#host/ipv6-settings.ts";
import { runOrThrow } from "#host/run.ts";
import type { LaunchNetwork } from "#jail/vmm-launch.ts";
import { familyOf, isIn } from "#model/ip-address.ts";
import { hostLink } from "#model/inside-addresses.ts";
import type { VmId } from "#model/ids.ts";
import type { RateLimit } from "#model/rate-limit.ts";

/** The arguments of nft(8) for each listing. */
export const LISTINGS: Readonly<Record<NetworkListing, readonly string[]>> = {
  rules: ["list", "ruleset"],
  counters: ["-j", "list", "set", ...POLICY_TABLE.split(" "), COUNTED_SET],
};
const TUN_DEVICE = "/dev/net/tun";
const KERNEL_MODE = 0o600;
/** The VMs of a host have addresses 198.18.0.2 to 198.18.255.254. */
const ADDRESSES = { first: 2, count: 0xffff - 2 };
/** The addresses that a VM tries before it is told that all are in use. */
const TRIES = 64;

/** The paths of Hearth's programs for networks. */
export type NetworkPrograms = {
  readonly netns: string;
  /** For policies with domains, and private networks. */
  readonly resolver: string;
};

/** Returns the path of a program for this host's machine, among those of all machines. */
export function ownProgram(dir: string, name: string): string {
  return join(dir, `${name}-${process.arch === "arm64" ? "aarch64" : "x86_64"}`);
}

export function networkPrograms(dir: string): NetworkPrograms {
  return { netns: ownProgram(dir, "hearth-netns"), resolver: ownProgram(dir, "hearth-resolver") };
}

/** Returns the networks of a helper that is root. Its programs are those on PATH unless told. */
export function networksOfRoot(
  {
    roots,
    networkPrograms: given,
  }: { readonly roots: HelperRoots; readonly networkPrograms?: NetworkPrograms | undefined },
  uidOf: (id: VmId) => number | undefined,
): VmNetworks {
  const programs = given ?? { netns: "hearth-netns", resolver: "hearth-resolver" };
  return new VmNetworks(roots.networks, programs, roots.vms, uidOf);
}

/** The networks of one directory, which all hearthds of a host share. */
export class VmNetworks implements GuestNetworks {
  readonly #dir: string;
  readonly #programs: NetworkPrograms;
  readonly #program: NetnsProgram;
  readonly #owner: string;
  readonly #uidOf: (id: VmId) => number | undefined;
  #number = randomInt(POLICY_NUMBER_MAX);

  /**
   * @param dir contains a file for each namespace; only root may write to it
   * @param owner tells the private networks of one hearthd from those of others
   * @param uidOf finds the uid of a VM
   */
  constructor(
    dir: string,
    programs: NetworkPrograms,
    owner: string,
    uidOf: (id: VmId) => number | undefined,
  ) {
    this.#dir = dir;
    this.#owner = owner;
    this.#programs = programs;
    this.#program = new NetnsProgram(programs.netns, dir);
    this.#uidOf = uidOf;
  }

  /**
   * Makes the VM's namespace, with its policy and a TAP device that its uid may open. Removes what the VM had before.
   * @throws HearthError `input.invalid`, `feature.missing` for domains without a resolver, `host.tool_missing`,
   * `host.tool_failed`, `host.addresses_used_up`
   */
  async make(id: VmId, network: GuestNetwork, signal: AbortSignal): Promise<void> {
    checkNetwork(network);
    const uid = this.#existingUid(id);
    await this.remove(id, signal);
    openTunDevice();
    const { publish = [], networks = [], name = "", limit } = network;
    const isPublished6 = publish.some(({ address }) => familyOf(address) === "ipv6");
    const ipv6 = newLinksHave6() && (hasIpv6() || isPublished6);
    const made = {
      uid,
      mac: network.mac,
      ipv6,
      addresses: Array.from({ length: TRIES }, (_, tried) => addressAt(id, tried)),
      private: { keys: networks.map((one) => this.#keyOf(one)), name },
      rules: guestProgram(network, namesOf(network), this.#nextNumber(), hostAddresses()),
      ...(publish.length > 0 && { publishRules: publishProgram(publishTable(id), hostLink(id), publish) }),
    };
    try {
      await this.#program.make(id, this.path(id), made, signal);
      if (hasResolver(network)) {
        const resolver = this.#resolver(id);
        await resolver.start(uid, signal);
        await resolver.configure(network.policy, network.resolver, ipv6, signal);
      }
      if (limit !== undefined) await this.setLimit(id, limit, signal);
    } catch (error) {
      await failAfter(error, () => this.remove(id, AbortSignal.timeout(TOOL_MS)));
    }
  }

  /** Removes the VM's namespace and its links. The processes in it have ended. Idempotent. */
  async remove(id: VmId, signal: AbortSignal): Promise<void> {
    const path = this.path(id);
    if (!existsSync(path)) return;
    await this.#resolver(id).end(signal);
    await this.#program.remove(id, path, signal);
  }

  /**
   * Replaces the policy of a VM that has a network, for its connections too. What names have allowed stays allowed while
   * the new policy has their domain. After an error, either the earlier policy is in force, or the new one without names.
   * @throws HearthError as `make`
   */
  async setPolicy(id: VmId, enforced: EnforcedPolicy, signal: AbortSignal): Promise<void> {
    checkEnforced(enforced);
    const { policy } = enforced;
    const path = this.#existing(id);
    const resolver = this.#resolver(id);
    const { networks = [] } = enforced;
    const around = { networks, host: hostAddresses() };
    const defined = networks
      .map((name, at) => `define network${at} = ${privateSubnet(this.#dir, this.#keyOf(name))}\n`)
      .join("");
    if (!hasResolver(enforced)) {
      await this.#load(
        path,
        `${defined}${policyProgram(policy, namesOf(enforced), this.#nextNumber(), around)}`,
        signal,
      );
      await resolver.end(signal);
      return;
    }
    if (!(await resolver.runs(signal))) await resolver.start(this.#existingUid(id), signal);
    const names = namesOf(enforced, await resolver.learned(signal));
    await this.#load(path, `${defined}${policyProgram(policy, names, this.#nextNumber(), around)}`, signal);
    await resolver.configure(policy, enforced.resolver, hasIpv6Peer(hostLink(id)), signal);
  }

  /**
   * Replaces the limit of a VM that has a network; one without rates removes it.
   * @throws HearthError as `setPolicy`
   */
  async setLimit(id: VmId, limit: RateLimit, signal: AbortSignal): Promise<void> {
    checkLimit(limit);
    const path = this.#existing(id);
    await allEnded([
      tool("tc", ["-batch", "-"], bandwidthCommand(hostLink(id), limit), signal),
      tool("nsenter", [`--net=${path}`, "tc", "-batch", "-"], bandwidthCommand(UPLINK, limit), signal),
      this.#load(path, packetLimitProgram(limit), signal),
    ]);
  }

  /** Lists what is in force, see `PrivilegedPort.readNetworkRules`. @throws HearthError as `setPolicy` */
  async listRules(id: VmId, what: NetworkListing, signal: AbortSignal): Promise<string> {
    const argv = [`--net=${this.#existing(id)}`, "nft", ...LISTINGS[what]];
    return runOrThrow("nsenter", argv, { timeoutMs: TOOL_MS, signal });
  }

  /** Lists the VMs of the host that have a namespace. */
  list(): string[] {
    if (!existsSync(this.#dir)) return [];
    return readdirSync(this.#dir).filter((name) => !name.startsWith("."));
  }

  join(id: VmId): LaunchNetwork {
    return { kind: "join", path: this.#existing(id) };
  }

  /** Returns the file of the VM's namespace. */
  path(id: VmId): string {
    return join(this.#dir, id);
  }

  #resolver(id: VmId): NameResolver {
    const place = { namespace: this.path(id), networks: this.#dir, link: hostLink(id) };
    return new NameResolver(this.#programs.resolver, place, join(this.#dir, `.${id}.sock`));
  }

  /** Returns the key of a private network: each hearthd of a host has its own. */
  #keyOf(name: string): string {
    return createHash("sha256").update(`${this.#owner}\0${name}`).digest("hex");
  }

  #existingUid(id: VmId): number {
    const uid = this.#uidOf(id);
    if (uid === undefined)
      throw new HearthError("input.invalid", `${id} has no uid, so it can have no network.`);
    return uid;
  }

  #existing(id: VmId): string {
    const path = this.path(id);
    if (existsSync(path)) return path;
    throw new HearthError("input.invalid", `${id} has no network namespace.`);
  }

  /** Returns a number that no policy of this process has had, nor that of one before it, as far as chance goes. */
  #nextNumber(): number {
    this.#number = (this.#number % POLICY_NUMBER_MAX) + 1;
    return this.#number;
  }

  async #load(path: string, program: string, signal: AbortSignal): Promise<void> {
    await tool("nsenter", [`--net=${path}`, "nft", "-f", "-"], program, signal);
  }
}

/**
 * Gives /dev/net/tun the mode that udev gives it, if it has the kernel's: the mode of an administrator stays. It is
 * harmless, since making a device takes CAP_NET_ADMIN: see tuntap.rst of the kernel.
 */
function openTunDevice(): void {
  if ((statSync(TUN_DEVICE).mode & 0o777) === KERNEL_MODE) chmodSync(TUN_DEVICE, 0o666);
}

/** Returns the address that is tried after `tried` others: a VM begins with the same one each time. */
function addressAt(id: VmId, tried: number): string {
  const first = createHash("sha256").update(id).digest().readUInt16BE();
  const host = ADDRESSES.first + ((first + tried) % ADDRESSES.count);
  return `198.18.${host >> 8}.${host & 0xff}`;
}

/** Lists the addresses of this host, but for those of the links of VMs, which are among all addresses of VMs. */
function hostAddresses(): string[] {
  const addresses = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const own = addresses.filter(({ internal, scopeid = 0 }) => !internal && scopeid === 0);
  return [...new Set(own.map(({ address }) => address))].filter((one) => !isIn(VM_ADDRESSES.network, one));
}

async function tool(program: string, args: readonly string[], input: string, signal: AbortSignal) {
  await runOrThrow(program, args, { input, timeoutMs: TOOL_MS, signal });
}
