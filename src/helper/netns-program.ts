/** Runs hearth-netns, which makes and removes the networks of VMs: see agent/internal/vmnet. */
import * as z from "zod/mini";
import { HearthError } from "#base/error.ts";
import { parseJson } from "#helper/message-lines.ts";
import { HOST_TABLE, hostProgram } from "#helper/nft-program.ts";
import { PRIVATE_RANGE, UPLINK, VM_ADDRESSES } from "#helper/vm-addresses.ts";
import { runOrThrow } from "#host/run.ts";
import { hostLink, INSIDE, LINK_PREFIX } from "#model/inside-addresses.ts";
import type { VmId } from "#model/ids.ts";

/** The time of one program that changes the network; it takes some milliseconds. */
export const TOOL_MS = 10_000;

/** A network to make. The programs have variables for addresses: see `guestProgram` and `publishProgram`. */
export type NetworkToMake = {
  /** The user that may open the TAP device. */
  readonly uid: number;
  /** The MAC address of the guest. */
  readonly mac: string;
  /** Whether the host forwards IPv6 for the VM. */
  readonly ipv6: boolean;
  /** Tried in turn. The VM gets the first to which the host has no route. */
  readonly addresses: readonly string[];
  /** The private networks, by the keys that tell those of one name apart, and the VM's name there. */
  readonly private: { readonly keys: readonly string[]; readonly name: string };
  /** The nftables program for the namespace. */
  readonly rules: string;
  /** The nftables program for the host that publishes ports, if there are any. */
  readonly publishRules?: string | undefined;
};

const answer = z.strictObject({ error: z.optional(z.literal("no address")), address: z.optional(z.ipv4()) });
/** The programs for the host, by whether Hearth made it a router for IPv4 and IPv6. */
const HOST_RULES = [true, false].flatMap((ipv4) =>
  [true, false].map((ipv6) => {
    const { version, rules } = hostProgram({ ipv4, ipv6 });
    return { ipv4, ipv6, version, rules };
  }),
);

/** The networks whose namespaces are files in one directory. */
export class NetnsProgram {
  readonly #program: string;
  readonly #dir: string;

  /**
   * @param program the absolute path of hearth-netns
   * @param dir contains the namespaces; it is made if it is missing
   */
  constructor(program: string, dir: string) {
    this.#program = program;
    this.#dir = dir;
  }

  /**
   * Makes a network. After an error there may be parts of it, which `remove` removes.
   * @throws HearthError `host.tool_missing`, `host.tool_failed`, `host.addresses_used_up`
   */
  async make(id: VmId, path: string, network: NetworkToMake, signal: AbortSignal): Promise<void> {
    const { mac, ...made } = network;
    const { tap, gateway, gatewayMac, prefixLength, guest6, gateway6, prefixLength6 } = INSIDE;
    const { error } = await this.#run(
      "make",
      {
        ...this.#made(id, path),
        ...made,
        inside: {
          tap,
          mac: gatewayMac,
          address: `${gateway}/${prefixLength}`,
          address6: `${gateway6}/${prefixLength6}`,
          guestMac: mac,
          guest6,
        },
        uplink: UPLINK,
        gateway: VM_ADDRESSES.gateway,
        network6: VM_ADDRESSES.network6,
        hostRules: HOST_RULES,
      },
      signal,
    );
    if (error === undefined) return;
    const count = network.addresses.length;
    throw new HearthError(
      "host.addresses_used_up",
      `Cannot give ${id} an address: ${count} addresses of ${VM_ADDRESSES.network} are all in use.`,
      { hint: "Stop VMs, or remove other routes to this network: ip route." },
    );
  }

  /** Removes a network, or what there is of it, and its file last. @throws HearthError as `make` */
  async remove(id: VmId, path: string, signal: AbortSignal): Promise<void> {
    await this.#run("remove", this.#made(id, path), signal);
  }

  #made(id: VmId, path: string): object {
    const [, table] = HOST_TABLE.split(" ");
    return {
      path,
      link: hostLink(id),
      publishTable: publishTable(id),
      host: { dir: this.#dir, linkPrefix: LINK_PREFIX, table, privateRange: PRIVATE_RANGE },
    };
  }

  async #run(verb: "make" | "remove", request: object, signal: AbortSignal): Promise<z.infer<typeof answer>> {
    const input = JSON.stringify(request);
    const stdout = await runOrThrow(this.#program, [verb], { input, timeoutMs: TOOL_MS, signal });
    return answer.parse(parseJson(stdout));
  }
}

/** Returns the name of the tables on the host with a VM's published ports, one for each family of addresses. */
export function publishTable(id: VmId): string {
  return `hearth_${id.slice("vm-".length)}`;
}
