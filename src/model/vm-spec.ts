import type { SnapshotId } from "#model/ids.ts";
import type { ImageRef } from "#model/image-ref.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import type { Isolation } from "#model/isolation.ts";
import type { RateLimit } from "#model/rate-limit.ts";
import type { RestartPolicy } from "#model/restart-policy.ts";
import type { VolumeMount } from "#model/volume.ts";

export const NETWORKS = ["none", "user"] as const;
export const INITS = ["agent", "systemd"] as const;

/** `none`: no network card. `user`: the VMM's own user-mode network; out only. */
export type Network = (typeof NETWORKS)[number];

/** Who is PID 1 in the guest: the agent itself, or the image's systemd with the agent as a service. */
export type Init = (typeof INITS)[number];

/** What VMs have that were stored before there was such a field. */
export const LATER_FIELDS = {
  nested: false,
  isolation: FULL_ISOLATION,
  volumes: [],
} as const satisfies Partial<VmSpec>;

/** What of a volume is in a saved memory, as long as nobody has looked at its content. */
export type Blank = { readonly sizeBytes: number; readonly readOnly: boolean };

/** What was asked for, complete with defaults. A restart uses the same. */
export type VmSpec = {
  readonly image: ImageRef;
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Size of the writable disk. Sparse: it takes what the guest writes. */
  readonly diskBytes: number;
  /** Disks of their own, which outlive the VM. No volume and no path twice. */
  readonly volumes: readonly VolumeMount[];
  readonly network: Network;
  readonly init: Init;
  /** The guest can run VMs itself: it has a /dev/kvm that works. */
  readonly nested: boolean;
  /** For the writable disk and each volume by itself; not for what VMs share. */
  readonly diskLimit?: RateLimit | undefined;
  /** For each direction of the network card by itself. */
  readonly netLimit?: RateLimit | undefined;
  /** A driver's name; undefined lets hearthd choose when the VM starts. */
  readonly driver?: string | undefined;
  /** A kernel release from `hearth kernel ls`; undefined takes the image's own. */
  readonly kernel?: string | undefined;
  /** Words added to the kernel command line. */
  readonly bootArgs: readonly string[];
  /** Defaults for every command in the VM, over the image's own. */
  readonly env: Readonly<Record<string, string>>;
  readonly user?: string | undefined;
  readonly workdir?: string | undefined;
  /** Stopped after this time from each start. */
  readonly lifetimeMs?: number | undefined;
  /** When it is started again though nobody asked; undefined: never. */
  readonly restart?: RestartPolicy | undefined;
  /** The walls around the VMM. */
  readonly isolation: Isolation;
  /** Removed as soon as it does not run any more, for whatever reason. */
  readonly autoRemove: boolean;
  /** What its first start goes on from; its disk lies on that snapshot's. Undefined once it has run. */
  readonly origin?: SnapshotId | undefined;
  /** Boots, where it could start from a warm template. */
  readonly cold?: boolean | undefined;
  /** No warm template is made because of it. */
  readonly noWarm?: boolean | undefined;
  /** Suspended when it has done nothing for so long; whoever needs it wakes it. */
  readonly idleTimeoutMs?: number | undefined;
  /** Made by hearthd for work of its own, and not listed. `idle`: behind everybody else. */
  readonly hidden?: "urgent" | "idle" | undefined;
  /** Of a template: empty disks in the places of volumes, which VMs that start from it have there. */
  readonly blanks?: readonly Blank[] | undefined;
};
