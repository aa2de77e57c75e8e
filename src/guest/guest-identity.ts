import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ConfigureRequestSchema } from "#guest/gen/hearth/agent/v1/agent_pb.ts";

/** The identity of a guest. It is sent after every boot and restore, before any program of the user runs. */
export type GuestIdentity = {
  readonly hostname: string;
  /** The host's wall clock. Undefined keeps the guest's. */
  readonly unixTimeMs?: number | undefined;
  /** Mixed into the guest's random number generator. */
  readonly entropy: Uint8Array;
  /** 32 hex digits. Undefined keeps the image's machine id. */
  readonly machineId?: string | undefined;
  /** Undefined leaves the guest with its loopback interface only. */
  readonly network?: GuestNetwork | undefined;
  /** The default environment of every exec. */
  readonly env: Readonly<Record<string, string>>;
  /** The default user. Undefined is root. */
  readonly user?: string | undefined;
  /** The default working directory. Undefined is the user's home directory. */
  readonly workdir?: string | undefined;
  /** The default command of an exec without arguments. Empty is a login shell. */
  readonly command: readonly string[];
  /** Mounted in this order. A mount that fails makes `configure` fail. */
  readonly mounts: readonly GuestMount[];
  /**
   * True at the first `configure` after the guest was restored, maybe as one of many copies. It then also gets a new
   * boot id, new SSH host keys and an empty neighbour table.
   */
  readonly restored?: boolean | undefined;
};

/** A volume, and the path that it is mounted at. */
export type GuestMount = {
  /** The device in the guest, such as /dev/vdc; or `serial:NAME` for the disk with that serial number. */
  readonly device: string;
  /** An absolute path. The directory is created if it is missing. */
  readonly path: string;
  readonly readOnly: boolean;
};

export type GuestNetwork = {
  /** The interface's name in the guest, such as eth0. */
  readonly interface: string;
  /** Addresses with their prefix length (CIDR). */
  readonly addresses: readonly string[];
  readonly gateway: string;
  /** The IPv6 address with its prefix length, and the gateway. Undefined: none. */
  readonly ipv6?: { readonly address: string; readonly gateway: string } | undefined;
  readonly nameservers: readonly string[];
  /** The MAC address, such as 02:00:00:00:00:01. Undefined keeps the interface's. */
  readonly mac?: string | undefined;
};

/** Converts milliseconds, which may have a fraction, to nanoseconds. */
export function nanoseconds(milliseconds: number): bigint {
  return BigInt(Math.round(milliseconds * 1_000)) * 1_000n;
}

/** Converts an identity to the agent's request. Undefined fields keep the guest's values. */
export function configureRequest(identity: GuestIdentity): MessageInitShape<typeof ConfigureRequestSchema> {
  const { hostname, unixTimeMs, entropy, machineId, network, env, user, workdir, command, mounts, restored } =
    identity;
  return {
    hostname,
    unixTimeNs: nanoseconds(unixTimeMs ?? 0),
    entropy: new Uint8Array(entropy),
    machineId: machineId ?? "",
    env: { ...env },
    user: user ?? "",
    workdir: workdir ?? "",
    command: [...command],
    mounts: mounts.map(({ device, path, readOnly }) => ({ device, path, readOnly })),
    restored: restored ?? false,
    ...(network === undefined
      ? {}
      : {
          network: {
            interface: network.interface,
            addresses: [...network.addresses],
            gateway: network.gateway,
            nameservers: [...network.nameservers],
            mac: network.mac ?? "",
            address6: network.ipv6?.address ?? "",
            gateway6: network.ipv6?.gateway ?? "",
          },
        }),
  };
}
