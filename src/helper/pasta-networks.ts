/**
 * Makes and removes the network namespaces of VMs where hearthd is not root:
 *
 *   guest eth0 ── tap0 ─ [ namespace: policy, translation ] ─ uplink ── pasta ── sockets of hearthd's user
 *
 * A process holds the namespace, and the user namespace in which hearthd has the rights to change it. pasta(1) connects
 * as a program of the host does, so rules in the namespace keep the guest from the host's own addresses, and nothing
 * changes on the host.
 */
import { randomInt } from "node:crypto";
import { accessSync, constants } from "node:fs";
import { allEnded } from "#base/all-ended.ts";
import { failAfter } from "#base/clean-up.ts";
import { errorChain, HearthError } from "#base/error.ts";
import {
  checkEnforced,
  checkLimit,
  checkNetwork,
  hasDomains,
  isOnPrivate,
  namesOf,
} from "#helper/check-guest-network.ts";
import type { GuestNetworks } from "#helper/guest-networks.ts";
import { TOOL_MS } from "#helper/netns-program.ts";
import { NetworkHolders } from "#helper/network-holder.ts";
import { bandwidthCommand, guestProgram, packetLimitProgram } from "#helper/nft-program.ts";
import type { EnforcedPolicy, GuestNetwork } from "#helper/nft-program.ts";
import { pastaArguments, PASTA_ADDRESS, publishedProgram } from "#helper/pasta-program.ts";
import { policyProgram } from "#helper/policy-program.ts";
import { UPLINK } from "#helper/vm-addresses.ts";
import { POLICY_NUMBER_MAX } from "#helper/policy-verdicts.ts";
import type { NetworkListing } from "#helper/privileged-port.ts";
import { LISTINGS } from "#helper/vm-networks.ts";
import { findProgram } from "#host/find-program.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { runOrThrow } from "#host/run.ts";
import type { LaunchNetwork } from "#jail/vmm-launch.ts";
import type { VmId } from "#model/ids.ts";
import { INSIDE } from "#model/inside-addresses.ts";
import { targetOf } from "#model/network-policy.ts";
import type { RateLimit } from "#model/rate-limit.ts";

/** The reason why policies have no domains. */
const NO_DOMAINS =
  "VMs of a hearthd that does not run as root have no private networks, and no policies with domains or for the host: a resolver needs a uid of its own, and pasta reaches no program of the host.";
const TUN_DEVICE = "/dev/net/tun";
/** hearthd's user in the user namespace, where no other has an id. */
const OWN_UID = 0;
const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
/** The milliseconds between errors about what is denied: one for each packet, where the kernel sends one a second. */
const ERROR_LIMIT = "/proc/sys/net/ipv4/icmp_ratelimit";
/** hearth-uplink denies the host's own addresses, and those that the host gets later. */
const HOST: readonly string[] = [];

/** The networks of one hearthd. */
export class PastaNetworks implements GuestNetworks {
  readonly gaps = { network: findGap(), domains: NO_DOMAINS };
  readonly #holders: NetworkHolders;
  readonly #user: { readonly uid: number; readonly gid: number };
  #number = randomInt(POLICY_NUMBER_MAX);

  /**
   * @param program the path of hearth-uplink
   * @param vms the directory with a directory for each VM
   * @param user that of this process
   */
  constructor(program: string, vms: string, user: { readonly uid: number; readonly gid: number }) {
    this.#holders = new NetworkHolders(program, vms);
    this.#user = user;
  }

  async make(id: VmId, network: GuestNetwork, signal: AbortSignal): Promise<void> {
    checkNetwork(network);
    refuseDomains(network);
    await this.remove(id, signal);
    try {
      const holder = await this.#holders.start(id, signal);
      const { mac, policy, publish = [], limit } = network;
      await startPasta(holder, network, signal);
      await makeLinks(holder, signal);
      const names = namesOf(network);
      const rules = guestProgram({ mac, policy }, names, this.#nextNumber(), HOST);
      const variables = `define address = ${PASTA_ADDRESS.guest}\ndefine address6 = ${INSIDE.guest6}\n`;
      const switches = [FORWARDING, ERROR_LIMIT, ...(publish.length === 0 ? [] : [LOOPBACK_SWITCH])];
      await allEnded([
        inside(holder, ["nft", "-f", "-"], `${variables}${rules}${publishedProgram(publish)}`, signal),
        inside(holder, ["tee", ...switches], "1\n", signal),
      ]);
      if (limit !== undefined) await this.setLimit(id, limit, signal);
    } catch (error) {
      await failAfter(error, () => this.remove(id, AbortSignal.timeout(TOOL_MS)));
    }
  }

  async remove(id: VmId, signal: AbortSignal): Promise<void> {
    await this.#holders.end(id, signal);
  }

  async setPolicy(id: VmId, enforced: EnforcedPolicy, signal: AbortSignal): Promise<void> {
    checkEnforced(enforced);
    refuseDomains(enforced);
    const rules = policyProgram(enforced.policy, namesOf(enforced), this.#nextNumber(), {
      networks: [],
      host: HOST,
    });
    await inside(this.#existing(id), ["nft", "-f", "-"], rules, signal);
  }

  async setLimit(id: VmId, limit: RateLimit, signal: AbortSignal): Promise<void> {
    checkLimit(limit);
    const holder = this.#existing(id);
    const bandwidth = [INSIDE.tap, UPLINK].map((link) => bandwidthCommand(link, limit)).join("");
    await allEnded([
      inside(holder, ["tc", "-batch", "-"], bandwidth, signal),
      inside(holder, ["nft", "-f", "-"], packetLimitProgram(limit), signal),
    ]);
  }

  async listRules(id: VmId, what: NetworkListing, signal: AbortSignal): Promise<string> {
    return inside(this.#existing(id), ["nft", ...LISTINGS[what]], "", signal);
  }

  list(): string[] {
    return this.#holders.list();
  }

  join(id: VmId): LaunchNetwork {
    const { net, user } = namespacesOf(this.#existing(id));
    return { kind: "join", path: net, owner: { path: user, user: this.#user } };
  }

  #existing(id: VmId): ProcessRef {
    const holder = this.#holders.find(id);
    if (holder !== undefined) return holder;
    throw new HearthError("input.invalid", `${id} has no network namespace.`);
  }

  /** Returns a number that no policy of this process has had, nor that of one before it, as far as chance goes. */
  #nextNumber(): number {
    this.#number = (this.#number % POLICY_NUMBER_MAX) + 1;
    return this.#number;
  }
}

/** Lets packets from 127.0.0.1 through the card: route_localnet of ip-sysctl.rst. */
const LOOPBACK_SWITCH = `/proc/sys/net/ipv4/conf/${INSIDE.tap}/route_localnet`;

/** Starts pasta, which returns when the uplink exists, and runs on in the PID namespace of the holder. */
async function startPasta(holder: ProcessRef, { publish }: GuestNetwork, signal: AbortSignal) {
  const { net, user, pid } = namespacesOf(holder);
  const argv = [`--user=${user}`, "--preserve-credentials", `--pid=${pid}`, "--", "pasta"];
  const options = { timeoutMs: TOOL_MS, signal };
  await runOrThrow("nsenter", [...argv, ...pastaArguments(publish ?? []), "--netns", net], options);
}

/** Makes the card, and sets up the uplink. pasta would give it other addresses on a host without a network. */
async function makeLinks(holder: ProcessRef, signal: AbortSignal): Promise<void> {
  const { tap, gateway, gatewayMac, prefixLength } = INSIDE;
  const commands = [
    "link set lo up",
    `tuntap add ${tap} mode tap user ${OWN_UID}`,
    `link set ${tap} address ${gatewayMac}`,
    `addr add ${gateway}/${prefixLength} dev ${tap}`,
    `link set ${tap} up`,
    `addr add ${PASTA_ADDRESS.guest}/${PASTA_ADDRESS.prefixLength} dev ${UPLINK}`,
    `link set ${UPLINK} up`,
    `route add default via ${PASTA_ADDRESS.gateway} dev ${UPLINK}`,
  ];
  await inside(holder, ["ip", "-batch", "-"], `${commands.join("\n")}\n`, signal);
}

/** Runs a program with the rights of root in the namespaces of a holder, and returns its stdout. */
function inside(
  holder: ProcessRef,
  argv: readonly string[],
  input: string,
  signal: AbortSignal,
): Promise<string> {
  const { net, user } = namespacesOf(holder);
  const joined = [`--user=${user}`, "--preserve-credentials", `--net=${net}`, "--", ...argv];
  return runOrThrow("nsenter", joined, { input, timeoutMs: TOOL_MS, signal });
}

function namespacesOf({ pid }: ProcessRef): {
  readonly net: string;
  readonly user: string;
  readonly pid: string;
} {
  const of = (name: string): string => `/proc/${pid}/ns/${name}`;
  return { net: of("net"), user: of("user"), pid: of("pid") };
}

/** @throws HearthError `feature.missing` */
function refuseDomains(enforced: EnforcedPolicy): void {
  const hasHost = enforced.policy.rules.some((rule) => targetOf(rule).kind === "host");
  if (hasDomains(enforced) || isOnPrivate(enforced) || hasHost)
    throw new HearthError("feature.missing", NO_DOMAINS);
}

/** Finds what a network lacks here. Namespaces are those of the jail, which has its own check. */
function findGap(): string | undefined {
  const without = (gap: string): string =>
    `VMs have no network of their own, because hearthd does not run as root, and ${gap}.`;
  if (findProgram("pasta") === undefined) return without("pasta is not installed");
  try {
    accessSync(TUN_DEVICE, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return without(`its user may not open ${TUN_DEVICE} (${errorChain(error).replace(/\.$/, "")})`);
  }
}
