/**
 * Makes and removes the network namespaces of VMs:
 *
 *   guest eth0 ── tap0 ─ [ namespace: policy, translation ] ─ uplink ── hvm<id> ─ [ host: translation ] ─ outside
 *
 * The namespace is a file in one directory of the host, and the two links between it and the host end with it. The
 * kernel keeps the lease of an address: a second route to it is refused.
 */
import { createHash, randomInt } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { isIPv4 } from "node:net";
import { join } from "node:path";
import { allEnded } from "#base/all-ended.ts";
import { failAfter } from "#base/clean-up.ts";
import { HearthError } from "#base/error.ts";
import type { GuestNetworks } from "#helper/guest-networks.ts";
import { FORWARDING, prepareHost, restoreHost, TOOL_MS } from "#helper/host-network.ts";
import {
  bandwidthCommand,
  guestProgram,
  packetLimitProgram,
  publishProgram,
  VM_ADDRESSES,
} from "#helper/nft-program.ts";
import type { EnforcedPolicy, GuestNetwork } from "#helper/nft-program.ts";
import { NameResolver } from "#helper/name-resolver.ts";
import {
  COUNTED_SET,
  POLICY_NUMBER_MAX,
  POLICY_TABLE,
  policyProgram,
  UPLINK,
} from "#helper/policy-program.ts";
import type { LearnedAddress, Names } from "#helper/policy-program.ts";
import type { NetworkListing } from "#helper/privileged-port.ts";
import { readMounts } from "#host/mounts.ts";
import { run, runOrThrow } from "#host/run.ts";
import type { LaunchNetwork } from "#jail/vmm-launch.ts";
import { hostLink, INSIDE } from "#model/inside-addresses.ts";
import type { VmId } from "#model/ids.ts";
import { checkPolicy, domainOf } from "#model/network-policy.ts";
import { checkPublished } from "#model/published-port.ts";
import type { PublishedPort } from "#model/published-port.ts";
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
/** Every address that is tried is the start of one program. */
const TRIES = 64;

/** The networks of one directory, which all hearthds of a host share. */
export class VmNetworks implements GuestNetworks {
  readonly #dir: string;
  readonly #resolverProgram: string;
  readonly #uidOf: (id: VmId) => number | undefined;
  #number = randomInt(POLICY_NUMBER_MAX);

  /**
   * @param dir contains a file for each namespace; only root may write to it
   * @param resolverProgram the path of hearth-resolver, for policies with domains
   * @param uidOf finds the uid of a VM
   */
  constructor(dir: string, resolverProgram: string, uidOf: (id: VmId) => number | undefined) {
    this.#dir = dir;
    this.#resolverProgram = resolverProgram;
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
    const path = this.path(id);
    openTunDevice();
    mkdirSync(this.#dir, { recursive: true, mode: 0o755 });
    writeFileSync(path, "", { flag: "wx", mode: 0o600 });
    try {
      const address = await prepareHost(
        this.#dir,
        {
          makeLinks: () => makeLinks(id, path, uid, addressAt(id, 0), signal),
          connect: () => this.#connect(id, uid, network, signal),
        },
        signal,
      );
      await publish(id, network.publish ?? [], address, signal);
      if (network.limit !== undefined) await this.setLimit(id, network.limit, signal);
    } catch (error) {
      await failAfter(error, () => this.remove(id, AbortSignal.timeout(TOOL_MS)));
    }
  }

  /** Removes the VM's namespace and its links. The processes in it have ended. Idempotent. */
  async remove(id: VmId, signal: AbortSignal): Promise<void> {
    const path = this.path(id);
    if (!existsSync(path)) return;
    await this.#resolver(id).end(signal);
    await unpublish(id, signal);
    const isMounted = readMounts().some(({ point }) => point === path);
    const [link] = await allEnded([
      run("ip", ["link", "delete", hostLink(id)], { timeoutMs: TOOL_MS, signal }),
      isMounted ? tool("umount", [path], "", signal) : undefined,
    ]);
    if (!link.ok && !/Cannot find device/.test(link.stderr)) throw link.error;
    await restoreHost(this.#dir, signal);
    rmSync(path);
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
    if (!hasDomains(enforced)) {
      await this.#load(path, policyProgram(policy, namesOf(enforced), this.#nextNumber()), signal);
      await resolver.end(signal);
      return;
    }
    if (!(await resolver.runs(signal))) await resolver.start(this.#existingUid(id), signal);
    const names = namesOf(enforced, await resolver.learned(signal));
    await this.#load(path, policyProgram(policy, names, this.#nextNumber()), signal);
    await resolver.configure(policy, enforced.resolver, signal);
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
    return new NameResolver(this.#resolverProgram, this.path(id), join(this.#dir, `.${id}.sock`));
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

  /**
   * Connects the namespace with the host, and puts its rules in force. Programs start at once where they can: each takes
   * some 15 ms.
   * @returns the VM's address, which no other VM of the host has
   */
  async #connect(id: VmId, uid: number, network: GuestNetwork, signal: AbortSignal): Promise<string> {
    const path = this.path(id);
    const enforce = (address: string): Promise<void> =>
      this.#load(path, guestProgram(network, namesOf(network), address, this.#nextNumber()), signal);
    const first = addressAt(id, 0);
    const resolver = this.#resolver(id);
    const [address] = await allEnded([
      leaseAddress(id, signal),
      enforce(first),
      tool("nsenter", [`--net=${path}`, "tee", FORWARDING], "1\n", signal),
      hasDomains(network) ? resolver.start(uid, signal) : undefined,
    ]);
    if (hasDomains(network)) await resolver.configure(network.policy, network.resolver, signal);
    if (address === first) return address;
    const other = [`addr replace ${address}/32 dev ${UPLINK}`, `addr del ${first}/32 dev ${UPLINK}`];
    await tool("nsenter", [`--net=${path}`, "ip", "-batch", "-"], `${other.join("\n")}\n`, signal);
    await enforce(address);
    return address;
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

/** Makes the namespace, with its card and its end of the link to the host. */
async function makeLinks(id: VmId, path: string, uid: number, address: string, signal: AbortSignal) {
  const { tap, gateway, gatewayMac, prefixLength } = INSIDE;
  const commands = [
    "link set lo up",
    `link add ${UPLINK} type veth peer name ${hostLink(id)} netns ${process.pid}`,
    `addr add ${address}/32 dev ${UPLINK}`,
    `link set ${UPLINK} up`,
    `route add default via ${VM_ADDRESSES.gateway} dev ${UPLINK} onlink`,
    `tuntap add ${tap} mode tap user ${uid}`,
    `link set ${tap} address ${gatewayMac}`,
    `addr add ${gateway}/${prefixLength} dev ${tap}`,
    `link set ${tap} up`,
  ];
  await tool("unshare", [`--net=${path}`, "ip", "-batch", "-"], `${commands.join("\n")}\n`, signal);
}

/** Sets up the host's end, and leases an address for it, which the kernel's routing table gives to one link only. */
async function leaseAddress(id: VmId, signal: AbortSignal): Promise<string> {
  const link = hostLink(id);
  const options = { timeoutMs: TOOL_MS, signal };
  const setUp = [`addr add ${VM_ADDRESSES.gateway}/32 dev ${link}`, `link set ${link} up`];
  for (let tried = 0; tried < TRIES; tried++) {
    const address = addressAt(id, tried);
    const route = `route add ${address}/32 dev ${link}`;
    // Commands are run up to the first that fails.
    const input = `${[...(tried === 0 ? setUp : []), route].join("\n")}\n`;
    const added = await run("ip", ["-batch", "-"], { ...options, input });
    if (added.ok) return address;
    if (!/File exists/.test(added.stderr)) throw added.error;
  }
  throw new HearthError(
    "host.addresses_used_up",
    `Cannot give ${id} an address: ${TRIES} addresses of ${VM_ADDRESSES.network} are all in use.`,
    { hint: "Stop VMs, or remove other routes to this network: ip route." },
  );
}

/** Publishes ports of a VM, by a table of its own on the host. */
async function publish(
  id: VmId,
  ports: readonly PublishedPort[],
  address: string,
  signal: AbortSignal,
): Promise<void> {
  if (ports.length === 0) return;
  const link = hostLink(id);
  // Also tells `unpublish` that there may be a table.
  writeFileSync(loopbackSwitch(link), "1\n");
  await tool("nft", ["-f", "-"], publishProgram(publishTable(id), link, ports, address), signal);
}

/** Undoes `publish`, before the link is deleted. Idempotent. */
async function unpublish(id: VmId, signal: AbortSignal): Promise<void> {
  const isOn = loopbackSwitch(hostLink(id));
  if (!existsSync(isOn) || readFileSync(isOn, "utf8").trim() === "0") return;
  const table = `table ${publishTable(id)}`;
  await tool("nft", ["-f", "-"], `${table}\ndelete ${table}\n`, signal);
}

/** Returns the table on the host with a VM's published ports. */
function publishTable(id: VmId): string {
  return `ip hearth_${id.slice("vm-".length)}`;
}

/** Returns the file that lets packets from 127.0.0.1 through a link: route_localnet of ip-sysctl.rst. */
function loopbackSwitch(link: string): string {
  return `/proc/sys/net/ipv4/conf/${link}/route_localnet`;
}

/** Tells whether a policy has domains, which the namespace's own resolver answers. */
export function hasDomains(
  enforced: EnforcedPolicy,
): enforced is EnforcedPolicy & { readonly resolver: string } {
  return enforced.policy.rules.some((rule) => domainOf(rule) !== undefined);
}

export function namesOf(enforced: EnforcedPolicy, learned: readonly LearnedAddress[] = []): Names {
  if (hasDomains(enforced)) return { kind: "answered", resolver: enforced.resolver, learned };
  const { resolver } = enforced;
  return resolver === undefined ? { kind: "none" } : { kind: "forwarded", resolver };
}

function invalid(what: string, value: unknown): HearthError {
  return new HearthError("input.invalid", `${what} ${JSON.stringify(value)} is refused.`);
}

/** @throws HearthError `input.invalid`, and `feature.missing` for domains that no resolver could answer */
export function checkEnforced(enforced: EnforcedPolicy): void {
  const { policy, resolver } = enforced;
  if (resolver !== undefined && !isIPv4(resolver)) throw invalid("The resolver", resolver);
  checkPolicy(policy);
  if (!hasDomains(enforced) || resolver !== undefined) return;
  throw new HearthError("feature.missing", "A policy with domains needs a resolver that VMs can ask.", {
    hint: "Add one to /etc/resolv.conf that is not on the host's loopback.",
  });
}

/** Checks what becomes a part of a program. @throws HearthError as `checkEnforced` */
export function checkNetwork({ mac, publish: ports = [], limit = {}, ...enforced }: GuestNetwork): void {
  if (!/^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac)) throw invalid("The MAC address", mac);
  checkEnforced(enforced);
  checkPublished(ports);
  checkLimit(limit);
}

/** Checks a limit, which may have no rates. @throws HearthError `input.invalid` */
export function checkLimit(limit: RateLimit): void {
  for (const value of Object.values(limit))
    if (value !== undefined && (!Number.isSafeInteger(value) || value <= 0))
      throw new HearthError("input.invalid", `net-limit: ${value} is no rate.`);
}

async function tool(program: string, args: readonly string[], input: string, signal: AbortSignal) {
  await runOrThrow(program, args, { input, timeoutMs: TOOL_MS, signal });
}
