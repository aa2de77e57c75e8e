import type { Brand } from "#base/brand.ts";
import { HearthError } from "#base/error.ts";

export type VmId = Brand<string, "VmId">;
export type VmName = Brand<string, "VmName">;
export type VolumeName = Brand<string, "VolumeName">;
export type SnapshotId = Brand<string, "SnapshotId">;
export type SnapshotName = Brand<string, "SnapshotName">;
export type OperationId = Brand<string, "OperationId">;
export type ImageDigest = Brand<string, "ImageDigest">;

const VM_ID = /^vm-[a-z2-7]{12}$/;
const SNAPSHOT_ID = /^sn-[a-z2-7]{12}$/;
const OPERATION_ID = /^op-[0-9a-f]{12}$/;
const IMAGE_DIGEST = /^sha256:[0-9a-f]{64}$/;
const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** RFC 1123 labels. Never normalised: "MyVM" is refused, not lower-cased. */
const NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/**
 * Checks a VM id. The only source of a VmId, which may therefore be used in paths.
 * @throws HearthError `input.invalid`
 */
export function parseVmId(text: string): VmId {
  if (!VM_ID.test(text)) throw invalid(`${quote(text)} is not a VM ID`, "`hearth ls` lists the VMs.");
  return text as VmId;
}

/**
 * Checks a VM name. The only source of a VmName, which may therefore be used as a host name and on a command line.
 * @throws HearthError `input.invalid`
 */
export function parseVmName(text: string): VmName {
  if (NAME.test(text)) return text as VmName;
  throw invalid(`name: ${quote(text)} is not a VM name`, nameRule("web-1"));
}

/**
 * Checks a volume name by the rule of VM names. The only source of a VolumeName, which may therefore be used in paths.
 * @throws HearthError `input.invalid`
 */
export function parseVolumeName(text: string): VolumeName {
  if (NAME.test(text)) return text as VolumeName;
  throw invalid(`volume: ${quote(text)} is not a volume name`, nameRule("data-1"));
}

/**
 * Checks a snapshot name by the rule of VM names. The only source of a SnapshotName.
 * @throws HearthError `input.invalid`
 */
export function parseSnapshotName(text: string): SnapshotName {
  if (NAME.test(text)) return text as SnapshotName;
  throw invalid(`snapshot: ${quote(text)} is not a snapshot name`, nameRule("before-upgrade"));
}

/**
 * Checks a snapshot id. The only source of a SnapshotId, which may therefore be used in paths.
 * @throws HearthError `input.invalid`
 */
export function parseSnapshotId(text: string): SnapshotId {
  if (!SNAPSHOT_ID.test(text))
    throw invalid(`${quote(text)} is not a snapshot ID`, "`hearth snapshot ls` lists the snapshots.");
  return text as SnapshotId;
}

function nameRule(example: string): string {
  return `Use 1 to 63 of a-z, 0-9 and -, with no - at either end, such as ${example}.`;
}

/** @throws HearthError `input.invalid` */
export function parseOperationId(text: string): OperationId {
  if (!OPERATION_ID.test(text)) throw invalid(`${quote(text)} is not an operation ID`, "Leave it out.");
  return text as OperationId;
}

/** @throws HearthError `input.invalid` */
export function parseImageDigest(text: string): ImageDigest {
  if (!IMAGE_DIGEST.test(text))
    throw invalid(`${quote(text)} is not an image digest`, "`hearth image ls` lists the images.");
  return text as ImageDigest;
}

/**
 * Returns a new id from 60 bits of `random`, which must have at least 12 bytes. The id is short because a socket path
 * has at most 107 bytes.
 */
export function vmIdFrom(random: Uint8Array): VmId {
  return parseVmId(`vm-${base32(random)}`);
}

/** Returns a new id; `random` as in `vmIdFrom`. */
export function snapshotIdFrom(random: Uint8Array): SnapshotId {
  return parseSnapshotId(`sn-${base32(random)}`);
}

function base32(random: Uint8Array): string {
  let text = "";
  for (const byte of random.subarray(0, 12)) text += BASE32[byte & 31];
  return text;
}

/** Returns a new id; `random` must have at least 6 bytes. */
export function operationIdFrom(random: Uint8Array): OperationId {
  return parseOperationId(`op-${Buffer.from(random.subarray(0, 6)).toString("hex")}`);
}

/** Quotes text from outside so that it is safe and short enough to print. */
function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

function invalid(message: string, hint: string): HearthError {
  return new HearthError("input.invalid", `${message}.`, { hint });
}
