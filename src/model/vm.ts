import type { ErrorCode } from "#base/error.ts";
import type { ImageDigest, VmId, VmName } from "#model/ids.ts";
import type { Labels } from "#model/labels.ts";
import type { Owner } from "#model/owner.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import type { VmState } from "#model/vm-state.ts";

export type DesiredState = "running" | "stopped";

/** One row of the store. */
export type VmRecord = {
  readonly id: VmId;
  /** Whose VM it is. A name is taken for one owner alone. */
  readonly owner: Owner;
  readonly name: VmName;
  readonly labels: Labels;
  readonly spec: VmSpec;
  /** 1 when the VM is created, and one more with each change of the spec that a user asked for. */
  readonly generation: number;
  /** What `spec.image` meant when the VM was made. A newer build of the image does not change the VM. */
  readonly imageDigest: ImageDigest;
  readonly state: VmState;
  /** It lives for one client's connection, or for what hearthd does, and ends with that. */
  readonly bound: boolean;
  /** What its user wants of it: the last of a start or a stop that was asked for. */
  readonly desired: DesiredState;
  /** Its spec in the store is damaged: it is shown and can be removed, and never started. */
  readonly unreadable?: true | undefined;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  /** The last exec, copy or start. BG-014. */
  readonly lastUsedAtMs: number;
  readonly lastError?:
    { readonly code: ErrorCode; readonly message: string; readonly atMs: number } | undefined;
};
