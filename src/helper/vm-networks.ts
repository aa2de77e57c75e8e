/**
 * Makes and removes the network namespaces of VMs:
 *
 *   guest eth0 ── tap0 ─ [ namespace: policy, translation ] ─ uplink ── hvm<id> ─ [ host: translation ] ─ outside
 *
 * The namespace is a file in one directory of the host, and the two links between it and the host end with it. The
 * kernel keeps the lease of an address: a second route to it is refused.
 */
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { isIPv4 } from "node:net";
import { join } from "node:path";
import { failAfter } from "#base/clean-up.ts";
import { HearthError } from "#base/error.ts";
import { FORWARDING, prepareHost, restoreHost, TOOL_MS } from "#helper/host-network.ts";
import { guestProgram, LINK_PREFIX, UPLINK, VM_ADDRESSES } from "#helper/nft-program.ts";
import type { GuestNetwork } from "#helper/nft-program.ts";
import { readMounts } from "#host/mounts.ts";
import { run, runOrThrow } from "#host/run.ts";
import { INSIDE } from "#model/inside-addresses.ts";
import type { VmId } from "#model/ids.ts";
import { checkPolicy } from "#model/network-policy.ts";

const TUN_DEVICE = "/dev/net/tun";
const KERNEL_MODE = 0o600;
/** The VMs of a host have addresses 198.18.0.2 to 198.18.255.254. */
const ADDRESSES = { first: 2, count: 0xffff - 2 };
/** Every address that is tried is the start of one program. */
const TRIES = 64;

/** The networks of one directory, which all hearthds of a host share. */
export class VmNetworks {
  readonly #dir: string;

  /** @param dir contains a file for each namespace; only root may write to it */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /**
   * Makes the VM's namespace, with its policy and a TAP device that this uid may open. Removes what the VM had before.
   * @throws HearthError `input.invalid`, `host.tool_missing`, `host.tool_failed`, `host.addresses_used_up`
   */
  async make(id: VmId, uid: number, network: GuestNetwork, signal: AbortSignal): Promise<void> {
    checkNetwork(network);
    await this.remove(id, signal);
    const path = this.path(id);
    openTunDevice();
    mkdirSync(this.#dir, { recursive: true, mode: 0o755 });
    writeFileSync(path, "", { flag: "wx", mode: 0o600 });
    try {
      await tool("unshare", [`--net=${path}`, "tee", FORWARDING], "1\n", signal);
      const address = await prepareHost(this.#dir, () => connect(id, path, signal), signal);
      await tool("nsenter", [`--net=${path}`, "ip", "-batch", "-"], insideLinks(address, uid), signal);
      await tool("nsenter", [`--net=${path}`, "nft", "-f", "-"], guestProgram(network, address), signal);
    } catch (error) {
      await failAfter(error, () => this.remove(id, AbortSignal.timeout(TOOL_MS)));
    }
  }

  /** Removes the VM's namespace and its links. The processes in it have ended. Idempotent. */
  async remove(id: VmId, signal: AbortSignal): Promise<void> {
    const path = this.path(id);
    if (!existsSync(path)) return;
    const link = await run("ip", ["link", "delete", linkOf(id)], { timeoutMs: TOOL_MS, signal });
    if (!link.ok && !/Cannot find device/.test(link.stderr)) throw link.error;
    if (readMounts().some(({ point }) => point === path)) await tool("umount", [path], "", signal);
    await restoreHost(this.#dir, signal);
    rmSync(path);
  }

  /** Lists the VMs of the host that have a namespace. */
  list(): string[] {
    if (!existsSync(this.#dir)) return [];
    return readdirSync(this.#dir).filter((name) => !name.startsWith("."));
  }

  /** Returns the file of the VM's namespace. */
  path(id: VmId): string {
    return join(this.#dir, id);
  }
}

/**
 * Gives /dev/net/tun the mode that udev gives it, if it has the kernel's: the mode of an administrator stays. It is
 * harmless, since making a device takes CAP_NET_ADMIN: see tuntap.rst of the kernel.
 */
function openTunDevice(): void {
  if ((statSync(TUN_DEVICE).mode & 0o777) === KERNEL_MODE) chmodSync(TUN_DEVICE, 0o666);
}

/** Connects the namespace with the host. Returns the VM's address, which no other VM of the host has. */
async function connect(id: VmId, path: string, signal: AbortSignal): Promise<string> {
  const link = linkOf(id);
  const links = [
    `link add ${link} type veth peer name ${UPLINK} netns ${path}`,
    `addr add ${VM_ADDRESSES.gateway}/32 dev ${link}`,
    `link set ${link} up`,
  ];
  await tool("ip", ["-batch", "-"], `${links.join("\n")}\n`, signal);
  const first = createHash("sha256").update(id).digest().readUInt16BE();
  for (let tried = 0; tried < TRIES; tried++) {
    const host = ADDRESSES.first + ((first + tried) % ADDRESSES.count);
    const address = `198.18.${host >> 8}.${host & 0xff}`;
    const route = ["route", "add", `${address}/32`, "dev", link];
    const added = await run("ip", route, { timeoutMs: TOOL_MS, signal });
    if (added.ok) return address;
    if (!/File exists/.test(added.stderr)) throw added.error;
  }
  throw new HearthError(
    "host.addresses_used_up",
    `Cannot give ${id} an address: ${TRIES} addresses of ${VM_ADDRESSES.network} are all in use.`,
    { hint: "Stop VMs, or remove other routes to this network: ip route." },
  );
}

/** Returns the commands of ip(8) for the links in a namespace. */
function insideLinks(address: string, uid: number): string {
  const { tap, gateway, gatewayMac, prefixLength } = INSIDE;
  const commands = [
    "link set lo up",
    `addr add ${address}/32 dev ${UPLINK}`,
    `link set ${UPLINK} up`,
    `route add default via ${VM_ADDRESSES.gateway} dev ${UPLINK} onlink`,
    `tuntap add ${tap} mode tap user ${uid}`,
    `link set ${tap} address ${gatewayMac}`,
    `addr add ${gateway}/${prefixLength} dev ${tap}`,
    `link set ${tap} up`,
  ];
  return `${commands.join("\n")}\n`;
}

/** Returns the name of the host's end; it has 15 characters, the most that Linux takes. */
function linkOf(id: VmId): string {
  return `${LINK_PREFIX}${id.slice("vm-".length)}`;
}

/** Checks what becomes a part of a program. @throws HearthError `input.invalid` */
function checkNetwork({ mac, policy, resolver }: GuestNetwork): void {
  const invalid = (what: string, value: unknown): HearthError =>
    new HearthError("input.invalid", `${what} ${JSON.stringify(value)} is refused.`);
  if (!/^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(mac)) throw invalid("The MAC address", mac);
  if (resolver !== undefined && !isIPv4(resolver)) throw invalid("The resolver", resolver);
  checkPolicy(policy);
}

async function tool(program: string, args: readonly string[], input: string, signal: AbortSignal) {
  await runOrThrow(program, args, { input, timeoutMs: TOOL_MS, signal });
}
