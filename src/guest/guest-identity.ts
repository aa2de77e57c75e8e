import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ConfigureRequestSchema } from "#guest/gen/hearth/agent/v1/agent_pb.ts";

/** Who a guest is. Sent after every boot and restore, before anything of the user's runs. */
export type GuestIdentity = {
  readonly hostname: string;
  /** The host's wall clock. Undefined leaves the guest's. */
  readonly unixTimeMs?: number | undefined;
  /** Mixed into the guest's random generator. */
  readonly entropy: Uint8Array;
  /** 32 hex digits. Undefined leaves the image's. */
  readonly machineId?: string | undefined;
  /** Undefined: nothing but the loopback. */
  readonly network?: GuestNetwork | undefined;
  /** Defaults for every exec. */
  readonly env: Readonly<Record<string, string>>;
  /** Undefined is root. */
  readonly user?: string | undefined;
  /** Undefined is the user's home. */
  readonly workdir?: string | undefined;
  /** What an exec with no words of its own runs. Empty is a login shell. */
  readonly command: readonly string[];
  /** In the order of mounting. One that cannot be mounted makes `configure` fail. */
  readonly mounts: readonly GuestMount[];
  /**
   * The guest was restored from a snapshot, maybe as one of many copies, and this is the first `configure` of its new
   * life: it also gets a boot id, SSH host keys and neighbours of its own.
   */
  readonly restored?: boolean | undefined;
};

/** A disk of the guest with an ext4, and where its files are to be seen. */
export type GuestMount = {
  /** In the guest, such as /dev/vdc; or `serial:NAME` for the disk with that serial. */
  readonly device: string;
  /** Absolute; made when it is missing. */
  readonly path: string;
  readonly readOnly: boolean;
};

export type GuestNetwork = {
  /** In the guest, such as eth0. */
  readonly interface: string;
  /** CIDR. */
  readonly addresses: readonly string[];
  readonly gateway: string;
  readonly nameservers: readonly string[];
  /** Such as 02:00:00:00:00:01. Undefined leaves the interface's. */
  readonly mac?: string | undefined;
};

/** Of a time that may have parts of milliseconds. */
export function nanoseconds(milliseconds: number): bigint {
  return BigInt(Math.round(milliseconds * 1_000)) * 1_000n;
}

/** As the agent takes it; what is undefined leaves the guest's own. */
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
          },
        }),
  };
}
