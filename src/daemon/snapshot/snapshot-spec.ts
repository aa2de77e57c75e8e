/** What a VM has of a snapshot's. */
import { HearthError } from "#base/error.ts";
import type { CreateVm } from "#api/wire.ts";
import type { Host } from "#daemon/host.ts";
import { idleWithVolumes } from "#daemon/vm/volume-users.ts";
import type { ImageDigest } from "#model/ids.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/**
 * Of one that was saved, what every VM has that is made from the snapshot.
 * @param memoryBytes what it was started with, if it runs
 */
export function specOfCopies(spec: VmSpec, driver: string, memoryBytes: number | undefined): VmSpec {
  const { lifetimeMs: _lifetime, idleTimeoutMs: _idle, origin: _origin, cold: _cold, ...kept } = spec;
  const { hidden: _hidden, restart: _restart, ...copied } = kept;
  return { ...copied, memoryBytes: memoryBytes ?? spec.memoryBytes, driver, autoRemove: false };
}

/** What a saved memory and its disk were made with, so that nobody can have them otherwise. */
const FIXED = [
  "cpus",
  "memoryBytes",
  "diskBytes",
  "network",
  "init",
  "nested",
  "driver",
  "kernel",
  "bootArgs",
  "diskLimit",
  "netLimit",
] as const satisfies readonly (keyof CreateVm & keyof VmSpec)[];

/** Of a VM that goes back to it. */
export function specForRestore(now: VmSpec, then: VmSpec): VmSpec {
  return { ...now, ...Object.fromEntries(FIXED.map((field) => [field, then[field]])) };
}

/** A new VM that begins as a snapshot. @throws HearthError `input.invalid`, `snapshot.not_found` */
export function specFromSnapshot(
  host: Pick<Host, "snapshots">,
  request: CreateVm,
  name: string,
): { spec: VmSpec; imageDigest: ImageDigest } {
  const { id, spec, imageDigest } = host.snapshots.get(name, "named");
  const refused = (["image", "volumes", ...FIXED] as const).find((field) => request[field] !== undefined);
  if (refused !== undefined)
    throw new HearthError("input.invalid", `${refused}: a VM from a snapshot has the snapshot's own.`, {
      hint: `Leave it out; \`hearth snapshot show ${name}\` says what it is.`,
    });
  if (spec.volumes.length > 0 && request.idleTimeoutMs !== undefined) throw idleWithVolumes();
  const { env, user, workdir, lifetimeMs, idleTimeoutMs, isolation, autoRemove, restart, cold } = request;
  return {
    imageDigest,
    spec: {
      ...spec,
      origin: id,
      env: { ...spec.env, ...env },
      user: user ?? spec.user,
      workdir: workdir ?? spec.workdir,
      lifetimeMs,
      idleTimeoutMs,
      isolation: { ...spec.isolation, ...isolation },
      autoRemove: autoRemove ?? false,
      restart,
      cold,
    },
  };
}
