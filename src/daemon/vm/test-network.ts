/** Tells what a VM's network policy decides about a connection, and tries the connection from inside of the guest. */
import { randomBytes } from "node:crypto";
import { isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";
import { HearthError, toHearthError } from "#base/error.ts";
import type { NetworkTest, TestNetwork } from "#api/wire.ts";
import type { Guest } from "#daemon/host.ts";
import { PRIVATE_RANGE, VM_ADDRESSES } from "#helper/vm-addresses.ts";
import { INSIDE } from "#model/inside-addresses.ts";
import { INTERNET } from "#model/network-policy.ts";
import { canonicalIpv6, isIn } from "#model/ip-address.ts";
import { decide } from "#model/policy-decision.ts";
import type { Decision } from "#model/policy-decision.ts";
import type { VmRecord } from "#model/vm.ts";

const PROBE_MS = 5_000;
const LOOPBACKS = ["127.0.0.0/8", "::1/128"] as const;
const GUEST = new Set<string>([INSIDE.guest, INSIDE.guest6]);
const GATEWAY = new Set<string>([INSIDE.gateway, INSIDE.gateway6]);
/** More than one line of getent(1). The guest chooses what it prints. */
const OUTPUT_MAX_CHARS = 4_096;
const NAME = /^(?!-)[A-Za-z0-9._-]+$/;

/**
 * Tests a TCP connection.
 * @throws HearthError `input.invalid` for a VM without a policy, for what is no host or the guest itself, and for
 * a name that the guest cannot resolve
 */
export async function testNetwork(
  vm: VmRecord,
  guest: Guest,
  { host, port }: TestNetwork,
  signal: AbortSignal,
): Promise<NetworkTest> {
  if (vm.spec.network !== "nat")
    throw new HearthError(
      "input.invalid",
      `${vm.name} has no network policy: its network is ${vm.spec.network}.`,
    );
  const address = await resolve(guest, host, signal);
  if (GUEST.has(address) || LOOPBACKS.some((network) => isIn(network, address)))
    throw new HearthError("input.invalid", `host: ${address} is the guest itself, which no policy is about.`);
  const error = await probe(guest, address, port, signal);
  const name = address === host ? undefined : host;
  return { address, ...decisionOf(vm, address, port, name), answered: error === undefined, error };
}

function decisionOf(
  vm: VmRecord,
  address: string,
  port: number,
  name: string | undefined,
): Pick<NetworkTest, "action" | "by" | "rule"> {
  // The table of the host decides about these, whatever the policy is.
  const own = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  if (address === INSIDE.gateway && port === 53) return { action: "allow", by: "host" };
  const policy = vm.spec.policy ?? INTERNET;
  const packet = { address, protocol: "tcp", port, name } as const;
  if (address === VM_ADDRESSES.gateway) return byRule(decide(policy, { ...packet, isHost: true }), "host");
  if (GATEWAY.has(address) || own.some((one) => one.address === address))
    return { action: "deny", by: "host" };
  const { networks } = vm.spec;
  if (networks !== undefined && isIn(PRIVATE_RANGE, address))
    return byRule(decide(policy, { ...packet, networks }), "private");
  const { network, network6 } = VM_ADDRESSES;
  if (isIn(network, address) || isIn(network6, address)) return { action: "deny", by: "vm" };
  const { action, by } = decide(policy, packet);
  return typeof by === "object" ? { action, by: "rule", rule: by.rule } : { action, by };
}

/** Returns the decision of a rule, or that about an address of these: the special networks contain all of them. */
function byRule(
  { action, by }: Decision,
  otherwise: "host" | "private",
): Pick<NetworkTest, "action" | "by" | "rule"> {
  if (typeof by === "object") return { action, by: "rule", rule: by.rule };
  return { action: otherwise === "host" ? "deny" : "allow", by: otherwise };
}

/** Returns the first address of a host, as the guest's resolver has it. Programs try it first. */
async function resolve(guest: Guest, host: string, signal: AbortSignal): Promise<string> {
  const given = addressOf(host);
  if (given !== undefined) return given;
  if (!NAME.test(host))
    throw new HearthError("input.invalid", `host: ${JSON.stringify(host)} is neither a name nor an address.`);
  const spec = {
    argv: ["getent", "ahosts", host],
    env: {},
    stdin: false,
    detach: false,
    timeoutMs: PROBE_MS,
  };
  let output = "";
  const id = `network-test-${randomBytes(8).toString("hex")}`;
  for await (const event of guest.exec(spec, { id }, signal)) {
    if (event.type === "stdout") output += Buffer.from(event.bytes).toString("latin1");
    if (output.length > OUTPUT_MAX_CHARS) break;
  }
  const found = addressOf(output.split(/\s/)[0] ?? "");
  if (found !== undefined) return found;
  throw new HearthError("input.invalid", `host: the guest finds no address for ${host}.`, {
    hint: "`hearth exec VM -- getent ahosts NAME` shows what its resolver answers.",
  });
}

/** Returns an address as all of Hearth writes it, if the text is one. */
function addressOf(text: string): string | undefined {
  return isIPv4(text) ? text : canonicalIpv6(text);
}

/** Connects from inside of the guest. Returns the error, if there is one. */
async function probe(
  guest: Guest,
  host: string,
  port: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  const inTime = AbortSignal.any([signal, AbortSignal.timeout(PROBE_MS)]);
  try {
    for await (const _ of guest.dial({ network: "tcp", host, port }, noBytes(), inTime)) break;
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    return inTime.aborted ? `no answer in ${PROBE_MS / 1000} s` : toHearthError(error).message;
  }
}

async function* noBytes(): AsyncGenerator<Uint8Array> {}
