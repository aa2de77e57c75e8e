import type { ImageDigest, SnapshotId, SnapshotName, VmId, VmName } from "#model/ids.ts";
import type { Labels } from "#model/labels.ts";
import type { Owner } from "#model/owner.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/**
 * What a snapshot is for. `named`: made by a user, who removes it. `warm`: a template that VMs start from, made and
 * removed by hearthd. `fork`: what the copies of a VM start from, gone when they have. `suspended`: the memory of a
 * VM that sleeps, gone when it wakes.
 */
export const SNAPSHOT_KINDS = ["named", "warm", "fork", "suspended"] as const;
export type SnapshotKind = (typeof SNAPSHOT_KINDS)[number];

/** A file of a snapshot's memory. */
export type SnapshotPart = {
  readonly name: "memory" | "state";
  readonly sizeBytes: number;
  readonly sha256: string;
  /** What stat(2) said when it was hashed, as in `VerifiedFiles`. */
  readonly stamp: string;
};

/** What a memory was saved from, and fits: known before anything is loaded. */
export type Shape = {
  readonly driver: string;
  /** The VMM's version, its CPU and machine: `SnapshotFeatures.vmmFingerprint`. */
  readonly vmm: string;
  /** Everything else that has to be the same, by name. */
  readonly vm: Readonly<Record<string, string>>;
  /** The hash of all that. */
  readonly key: string;
};

/** A VM as it was at one moment: its disk, and its memory if it ran. */
export type SnapshotRecord = {
  readonly id: SnapshotId;
  /** Names who owns the snapshot. A name is taken for one owner alone. */
  readonly owner: Owner;
  readonly kind: SnapshotKind;
  /** Of `named` ones. */
  readonly name?: SnapshotName | undefined;
  /** What the user labelled it with when it was made. */
  readonly labels: Labels;
  /** The VM that was saved; it may be gone. */
  readonly vmId: VmId;
  readonly vmName: VmName;
  readonly spec: VmSpec;
  readonly imageDigest: ImageDigest;
  /** Undefined in a snapshot of the disk alone. */
  readonly shape?: Shape | undefined;
  readonly diskFormat: "raw" | "qcow2";
  /** The files of the memory. Empty until they are written, and in a snapshot of the disk alone. */
  readonly parts: readonly SnapshotPart[];
  readonly createdAtMs: number;
  readonly lastUsedAtMs: number;
  /** Every file is whole and was proven to load. */
  readonly ready: boolean;
};
