/** Reads the rows of VMs in the store, also damaged ones. */
import { isDeepStrictEqual } from "node:util";
import { errorChain } from "#base/error.ts";
import type { ImageDigest, VmId, VmName } from "#model/ids.ts";
import { readStoredState } from "#daemon/store/stored-handle.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import type { Labels } from "#model/labels.ts";
import type { Owner } from "#model/owner.ts";
import { LATER_FIELDS } from "#model/vm-spec.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import type { VmState } from "#model/vm-state.ts";
import type { VmRecord } from "#model/vm.ts";

export type VmRow = {
  id: string;
  owner: string;
  name: string;
  labels: string;
  spec: string;
  generation: number;
  image_digest: string;
  state: string;
  desired: string;
  ephemeral: number;
  created_at_ms: number;
  updated_at_ms: number;
  last_used_at_ms: number;
  last_error: string | null;
};

/** Replaces a spec that cannot be read; no VM is ever started with it. */
const UNKNOWN_SPEC: VmSpec = {
  ...LATER_FIELDS,
  image: parseImageRef("unknown"),
  cpus: 1,
  memoryBytes: 0,
  diskBytes: 0,
  network: "none",
  init: "agent",
  isolation: FULL_ISOLATION,
  bootArgs: [],
  env: {},
  autoRemove: false,
};

/** Reads a row. A VM whose row is damaged is shown as failed, and does not keep others from being read. */
export function toVmRecord(row: VmRow): VmRecord {
  const spec = parse<VmSpec>(row.spec);
  const state = parse(row.state, readStoredState);
  const lastError = row.last_error === null ? undefined : parse<VmRecord["lastError"]>(row.last_error);
  const damage =
    "damage" in spec ? `spec: ${spec.damage}` : "damage" in state ? `state: ${state.damage}` : "";
  return {
    id: row.id as VmId,
    owner: row.owner as Owner,
    name: row.name as VmName,
    labels: toLabels(row.labels),
    spec: "damage" in spec ? UNKNOWN_SPEC : { ...LATER_FIELDS, ...spec.value },
    generation: row.generation,
    imageDigest: row.image_digest as ImageDigest,
    ephemeral: row.ephemeral === 1,
    desired: row.desired === "running" ? "running" : "stopped",
    state: "value" in state && damage === "" ? state.value : damaged(damage, row.updated_at_ms),
    createdAtMs: row.created_at_ms,
    updatedAtMs: row.updated_at_ms,
    lastUsedAtMs: row.last_used_at_ms,
    lastError: lastError !== undefined && "value" in lastError ? lastError.value : undefined,
    ...("damage" in spec && { unreadable: true }),
  };
}

/** Returns no labels for damaged ones: labels do not change what the VM is. */
function toLabels(text: string): Labels {
  const labels = parse<Labels>(text);
  return "value" in labels ? labels.value : {};
}

/** Fields of the spec that hearthd changes by itself as VMs start. Users do not see them. */
const OWN_FIELDS = [
  "sourceSnapshot",
  "internal",
  "placeholders",
] as const satisfies readonly (keyof VmSpec)[];

/** Tells whether two specs differ in what a user asked for. */
export function isChanged(before: VmSpec, after: VmSpec): boolean {
  const none = Object.fromEntries(OWN_FIELDS.map((field) => [field, undefined]));
  // In the form of the store, without fields that are undefined.
  const [stored, next] = [before, after].map((spec): unknown =>
    JSON.parse(JSON.stringify({ ...spec, ...none })),
  );
  return !isDeepStrictEqual(stored, next);
}

function damaged(damage: string, atMs: number): VmState {
  return {
    phase: "failed",
    code: "store.corrupt",
    message: `Its row in the store is damaged: ${damage}.`,
    atMs,
  };
}

function parse<Value extends object | undefined>(
  text: string,
  read: (stored: Value) => Value = (stored) => stored,
): { readonly value: Value } | { readonly damage: string } {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return { value: read(value as Value) };
    return { damage: "it is no object" };
  } catch (error) {
    return { damage: errorChain(error) };
  }
}
