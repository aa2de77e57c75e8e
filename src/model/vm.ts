import type { ErrorCode } from "#base/error.ts";
import type { ImageDigest, VmId, VmName } from "#model/ids.ts";
import type { Labels } from "#model/labels.ts";
import type { Owner } from "#model/owner.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import type { VmState } from "#model/vm-state.ts";

export type DesiredState = "running" | "stopped";

/** A VM: one row of the store. */
export type VmRecord = {
  readonly id: VmId;
  /** The owner of the VM. Names are unique per owner. */
  readonly owner: Owner;
  readonly name: VmName;
  readonly labels: Labels;
  readonly spec: VmSpec;
  /** 1 when the VM is created, and one more with each change of the spec that a user requested. */
  readonly generation: number;
  /** The image that `spec.image` meant when the VM was created. A newer build of the image does not change the VM. */
  readonly imageDigest: ImageDigest;
  readonly state: VmState;
  /** True if the VM is ephemeral: it ends with one client's connection, or with hearthd's work. */
  readonly ephemeral: boolean;
  /** The state that the user wants: the last start or stop that was requested. */
  readonly desired: DesiredState;
  /** The spec in the store is damaged: the VM is shown and can be removed, but not started. */
  readonly unreadable?: true | undefined;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  /** The time of the last exec, copy or start. */
  readonly lastUsedAtMs: number;
  readonly lastError?:
    { readonly code: ErrorCode; readonly message: string; readonly atMs: number } | undefined;
};
