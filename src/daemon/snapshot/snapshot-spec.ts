/** Makes the spec that a snapshot keeps, and those of VMs that are made from it. */
import { HearthError } from "#base/error.ts";
import type { CreateVm } from "#api/wire.ts";
import type { Host } from "#daemon/host.ts";
import { checkNetwork } from "#daemon/spec/check-network.ts";
import { idleWithVolumes } from "#daemon/vm/volume-users.ts";
import type { ImageDigest } from "#model/ids.ts";
import { withoutPrivate } from "#model/network-policy.ts";
import type { VmSpec } from "#model/vm-spec.ts";

/**
 * Returns the spec stored in a snapshot: the source VM's spec without what belongs to that VM alone (lifetime, idle
 * timeout, published ports, private networks, …).
 * @param memoryBytes what the VM was started with, if it runs
 */
export function specOfCopies(spec: VmSpec, driver: string, memoryBytes: number | undefined): VmSpec {
  const { lifetimeMs: _lifetime, idleTimeoutMs: _idle, sourceSnapshot: _source, cold: _cold, ...kept } = spec;
  const { internal: _internal, restart: _restart, publish: _publish, networks: _networks, ...copied } = kept;
  const policy = copied.policy && withoutPrivate(copied.policy);
  return { ...copied, policy, memoryBytes: memoryBytes ?? spec.memoryBytes, driver, autoRemove: false };
}

/** The fields that a snapshot's memory and disk depend on. They cannot be chosen for a VM that is made from it. */
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

/** Returns the spec of a VM that is restored from its snapshot. */
export function specForRestore(now: VmSpec, then: VmSpec): VmSpec {
  return { ...now, ...Object.fromEntries(FIXED.map((field) => [field, then[field]])) };
}

/** Returns the spec of a new VM made from a snapshot. @throws HearthError `input.invalid`, `snapshot.not_found` */
export function specFromSnapshot(
  host: Pick<Host, "snapshots" | "limitations">,
  request: CreateVm,
  name: string,
): { spec: VmSpec; imageDigest: ImageDigest } {
  const { id, spec, imageDigest } = host.snapshots.get(name, "named");
  const refused = (["image", "volumes", ...FIXED] as const).find((field) => request[field] !== undefined);
  if (refused !== undefined)
    throw new HearthError(
      "input.invalid",
      `${refused}: cannot be given with a snapshot, which has its own.`,
      {
        hint: `Leave it out; \`hearth snapshot show ${name}\` shows the value.`,
      },
    );
  if (spec.volumes.length > 0 && request.idleTimeoutMs !== undefined) throw idleWithVolumes();
  const {
    env,
    user,
    workdir,
    lifetimeMs,
    idleTimeoutMs,
    isolation,
    autoRemove,
    restart,
    cold,
    publish,
    networks,
  } = request;
  const policy = request.policy ?? spec.policy;
  checkNetwork(host, { ...spec, policy, publish, networks, isolation: { ...spec.isolation, ...isolation } });
  return {
    imageDigest,
    spec: {
      ...spec,
      sourceSnapshot: id,
      env: { ...spec.env, ...env },
      user: user ?? spec.user,
      workdir: workdir ?? spec.workdir,
      policy,
      publish,
      networks,
      lifetimeMs,
      idleTimeoutMs,
      isolation: { ...spec.isolation, ...isolation },
      autoRemove: autoRemove ?? false,
      restart,
      cold,
    },
  };
}
