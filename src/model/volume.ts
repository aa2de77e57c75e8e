import { HearthError } from "#base/error.ts";
import { parseVolumeName } from "#model/ids.ts";
import type { VolumeName } from "#model/ids.ts";
import { LIMITS } from "#model/limits.ts";

/** A volume of a VM, and its mount point in the guest. */
export type VolumeMount = {
  readonly name: VolumeName;
  /** The mount point; absolute and normalised. */
  readonly path: string;
  readonly readOnly: boolean;
};

const EXAMPLE = "Write NAME:/path, or NAME:/path:ro for a read-only volume.";
/** Directories that the kernel and the agent fill at every boot. A volume there would cover them, or be covered. */
const RESERVED = ["/proc", "/sys", "/dev", "/run"];

/**
 * Parses `NAME:/path`, `NAME:/path:ro` or `NAME:/path:rw`.
 * @throws HearthError `input.invalid`
 */
export function parseVolumeMount(text: string): VolumeMount {
  const [name = "", path, mode, ...more] = text.split(":");
  if (path === undefined || more.length > 0)
    throw invalid(`volume: ${quote(text)} is not a volume and a path`, EXAMPLE);
  if (mode !== undefined && mode !== "ro" && mode !== "rw")
    throw invalid(`volume: ${quote(mode)} is neither ro nor rw`, EXAMPLE);
  return { name: parseVolumeName(name), path: parseMountPath(path), readOnly: mode === "ro" };
}

/** Formats a mount as `parseVolumeMount` reads it. */
export function formatVolumeMount(mount: Omit<VolumeMount, "name"> & { readonly name: string }): string {
  const { name, path, readOnly } = mount;
  return `${name}:${path}${readOnly ? ":ro" : ""}`;
}

/**
 * Checks the mount point of a volume. A path that is not normalised is refused, with the rule.
 * @throws HearthError `input.invalid`
 */
export function parseMountPath(text: string): string {
  const problem = mountPathProblem(text);
  if (problem === undefined) return text;
  throw invalid(`volume: the path ${quote(text)} ${problem}`, "Write an absolute path such as /data.");
}

function mountPathProblem(text: string): string | undefined {
  if (!text.startsWith("/")) return "is not absolute";
  if (text === "/") return "is the root directory, which is on the disk of the VM";
  if (Buffer.byteLength(text) > LIMITS.mountPathMaxBytes) return "is too long";
  // eslint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u001f\u007f:]/.test(text)) return "contains a colon or a control character";
  const parts = text.slice(1).split("/");
  if (parts.some((part) => part === "" || part === "." || part === ".."))
    return "is not normalised: no empty parts, no . and no ..";
  const reserved = RESERVED.find((dir) => text === dir || text.startsWith(`${dir}/`));
  return reserved === undefined ? undefined : `is in ${reserved}, which belongs to the kernel`;
}

/**
 * Checks the rules between a VM's mounts: no path twice, no volume twice.
 * @throws HearthError `input.invalid`
 */
export function checkMounts(mounts: readonly VolumeMount[]): void {
  const path = twice(mounts.map((mount) => mount.path));
  if (path !== undefined)
    throw invalid(`volume: two volumes have the mount point ${path}`, "Give each volume its own path.");
  const name = twice(mounts.map((mount) => mount.name));
  if (name !== undefined)
    throw invalid(`volume: ${name} is given twice`, "Mount it once, and use symbolic links in the VM.");
}

function twice(words: readonly string[]): string | undefined {
  return words.find((word, index) => words.indexOf(word) !== index);
}

/** Quotes text from outside so that it is safe and short enough to print. */
function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

function invalid(message: string, hint: string): HearthError {
  return new HearthError("input.invalid", `${message}.`, { hint });
}
