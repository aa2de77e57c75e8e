import type { ImageDigest, SnapshotId, SnapshotName, VmId, VmName } from "#model/ids.ts";
import type { Labels } from "#model/labels.ts";
import type { Owner } from "#model/owner.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/**
 * The purpose of a snapshot. `named`: made and removed by a user. `warm`: a template that VMs start from, made and
 * removed by hearthd. `fork`: the start source of a VM's copies, removed when they have started. `suspended`: the
 * memory of a suspended VM, removed when it is resumed.
 */
export const SNAPSHOT_KINDS = ["named", "warm", "fork", "suspended"] as const;
export type SnapshotKind = (typeof SNAPSHOT_KINDS)[number];

/** A file of a snapshot: the guest memory or the VM state. */
export type SnapshotPart = {
  readonly name: "memory" | "state";
  readonly sizeBytes: number;
  readonly sha256: string;
  /** The `statFingerprint` of the file when it was hashed. */
  readonly fingerprint: string;
};

/** Everything that must be equal for a guest memory file to be loadable. Known before anything is loaded. */
export type Shape = {
  readonly driver: string;
  /** The VMM's version, its CPU and machine: `SnapshotFeatures.vmmFingerprint`. */
  readonly vmm: string;
  /** Everything else that must be equal, by name. */
  readonly vm: Readonly<Record<string, string>>;
  /** The compatibility key: the hash of all of it. */
  readonly key: string;
};

/** A VM at one moment: its disk, and its memory if it ran. */
export type SnapshotRecord = {
  readonly id: SnapshotId;
  /** The owner of the snapshot. Names are unique per owner. */
  readonly owner: Owner;
  readonly kind: SnapshotKind;
  /** Set if the kind is `named`. */
  readonly name?: SnapshotName | undefined;
  /** The labels that the user gave it when it was made. */
  readonly labels: Labels;
  /** The source VM; it may have been removed since. */
  readonly vmId: VmId;
  readonly vmName: VmName;
  readonly spec: VmSpec;
  readonly imageDigest: ImageDigest;
  /** Undefined in a snapshot of the disk only. */
  readonly shape?: Shape | undefined;
  readonly diskFormat: "raw" | "qcow2";
  /** The guest memory and VM state files. Empty until they are written, and in a snapshot of the disk only. */
  readonly parts: readonly SnapshotPart[];
  readonly createdAtMs: number;
  readonly lastUsedAtMs: number;
  /** True when every file is complete and was proven to load. */
  readonly ready: boolean;
};
