import type { SnapshotId } from "#model/ids.ts";
import type { ImageRef } from "#model/image-ref.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import type { Isolation } from "#model/isolation.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";
import type { PublishedPort } from "#model/published-port.ts";
import type { RateLimit } from "#model/rate-limit.ts";
import type { RestartPolicy } from "#model/restart-policy.ts";
import type { VolumeMount } from "#model/volume.ts";

export const NETWORKS = ["none", "nat"] as const;
export const INITS = ["agent", "systemd"] as const;

/** `none`: no network card. `nat`: a network namespace of its own, from which public addresses are reached. */
export type Network = (typeof NETWORKS)[number];

/** PID 1 in the guest: the agent itself, or the image's systemd with the agent as a service. */
export type Init = (typeof INITS)[number];

/** Fields of VMs that were stored before the fields existed. */
export const LATER_FIELDS = {
  nested: false,
  isolation: FULL_ISOLATION,
  volumes: [],
} as const satisfies Partial<VmSpec>;

/** The properties of a volume that guest memory depends on before the volume's content is read. */
export type PlaceholderDisk = { readonly sizeBytes: number; readonly readOnly: boolean };

/** The VM as it was requested, complete with defaults. Every start uses it. */
export type VmSpec = {
  readonly image: ImageRef;
  readonly cpus: number;
  readonly memoryBytes: number;
  /** The size of the writable disk, which is sparse: it takes what the guest writes. */
  readonly diskBytes: number;
  /** Disks that outlive the VM. No volume and no path twice. */
  readonly volumes: readonly VolumeMount[];
  readonly network: Network;
  /** The policy of network `nat`. Undefined: public addresses only. */
  readonly policy?: NetworkPolicy | undefined;
  /** The ports that are reached on the host, with network `nat`. Copies of the VM have none. */
  readonly publish?: readonly PublishedPort[] | undefined;
  /** The private networks that the VM is on, with network `nat`. Copies of the VM are on none. */
  readonly networks?: readonly string[] | undefined;
  readonly init: Init;
  /** The guest can run VMs itself: its /dev/kvm works. */
  readonly nested: boolean;
  /** The limit of the writable disk and of each volume, separately. Read-only disks that VMs share have none. */
  readonly diskLimit?: RateLimit | undefined;
  /** The limit of each direction of the network card, separately. */
  readonly netLimit?: RateLimit | undefined;
  /** A driver's name; undefined lets hearthd choose at each start. */
  readonly driver?: string | undefined;
  /** A kernel release from `hearth kernel ls`; undefined takes the image's own. */
  readonly kernel?: string | undefined;
  /** Arguments added to the kernel command line. */
  readonly bootArgs: readonly string[];
  /** The environment of every command in the VM, over the image's own. */
  readonly env: Readonly<Record<string, string>>;
  readonly user?: string | undefined;
  readonly workdir?: string | undefined;
  /** The VM is stopped this long after each start. */
  readonly lifetimeMs?: number | undefined;
  /** Undefined: never restarted without a request. */
  readonly restart?: RestartPolicy | undefined;
  /** The isolation of the VMM. */
  readonly isolation: Isolation;
  /** The VM is removed as soon as it ends, for any reason. */
  readonly autoRemove: boolean;
  /**
   * The snapshot that the first start restores, and whose disk the VM's disk is layered on. Undefined once the VM has
   * run.
   */
  readonly sourceSnapshot?: SnapshotId | undefined;
  /** Boots the VM even if it could start from a template. */
  readonly cold?: boolean | undefined;
  /** No template is made for this VM. */
  readonly noWarm?: boolean | undefined;
  /** The VM is suspended after this idle time. A command for it resumes it. */
  readonly idleTimeoutMs?: number | undefined;
  /** Set for an internal VM, which is not listed: its priority. `background` work waits for everything else. */
  readonly internal?: "foreground" | "background" | undefined;
  /** The placeholder disks of a template, each in the place of a volume of the VMs that start from it. */
  readonly placeholders?: readonly PlaceholderDisk[] | undefined;
};
