import { HearthError } from "#base/error.ts";
import type { CreateVm } from "#api/wire.ts";
import { driverOf } from "#daemon/spec/choose-driver.ts";
import type { Host } from "#daemon/host.ts";
import { specFromSnapshot } from "#daemon/snapshot/snapshot-spec.ts";
import { checkNetwork } from "#daemon/spec/check-network.ts";
import { withNamedPolicy } from "#daemon/spec/resolve-policy.ts";
import { assertLimits } from "#daemon/spec/limit-features.ts";
import { checkPortsUnused } from "#daemon/vm/published-ports.ts";
import { assertVolumes, idleWithVolumes } from "#daemon/vm/volume-users.ts";
import type { Call } from "#daemon/vm/vms.ts";
import { checkBootArgs } from "#model/boot-args.ts";
import { parseVolumeName } from "#model/ids.ts";
import type { ImageDigest } from "#model/ids.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import { parseImageRef } from "#model/image-ref.ts";
import type { ImageRef } from "#model/image-ref.ts";
import { LIMITS } from "#model/limits.ts";
import type { Init, VmSpec } from "#model/vm-spec.ts";
import { checkMounts, parseMountPath } from "#model/volume.ts";
import type { VolumeMount } from "#model/volume.ts";

/** Returns the spec of a request with the configured defaults, checked against what the image and the host offer. */
export async function completeSpec(
  host: Host,
  asked: CreateVm,
  call: Pick<Call, "onProgress" | "signal">,
): Promise<{ spec: VmSpec; imageDigest: ImageDigest }> {
  const request = withNamedPolicy(host, asked);
  checkRestart(request);
  if (request.snapshot !== undefined) return specFromSnapshot(host, request, request.snapshot);
  const { defaults } = host.config;
  const ref = parseImageRef(imageOf(request));
  const bootArgs = request.bootArgs ?? [];
  checkBootArgs(bootArgs);
  const driver = request.driver ?? defaults.driver;
  if (driver !== undefined) driverOf(host, driver);
  const volumes = readVolumes(request);
  // Checked before an image is pulled for nothing, and again when the VM is created.
  assertVolumes(host, volumes);
  if (volumes.length > 0 && request.idleTimeoutMs !== undefined) throw idleWithVolumes();
  const { diskLimit, netLimit, network = defaults.network } = request;
  await assertLimits(host, { diskLimit, netLimit, network }, driver, call.signal);
  await checkPortsUnused(host, request.publish);
  const image = await host.images.ensure(ref, call.onProgress, call.signal);
  const init = chooseInit(request, ref, image.inits);
  if (request.kernel !== undefined) await checkKernel(host, request.kernel);
  const nested = request.nested ?? false;
  const cpusMax = nested ? await nestedCpusMax(host, driver, call.signal) : LIMITS.cpusMax;
  const spec: VmSpec = {
    image: ref,
    cpus: request.cpus ?? Math.min(defaults.cpus, cpusMax),
    memoryBytes: request.memoryBytes ?? defaults.memoryBytes,
    diskBytes: request.diskBytes ?? defaults.diskBytes,
    volumes,
    network,
    policy: request.policy,
    publish: request.publish,
    networks: request.networks,
    init,
    nested,
    diskLimit,
    netLimit,
    driver,
    kernel: request.kernel,
    bootArgs,
    env: request.env ?? {},
    user: request.user,
    workdir: request.workdir,
    lifetimeMs: request.lifetimeMs,
    idleTimeoutMs: request.idleTimeoutMs,
    isolation: { ...FULL_ISOLATION, ...request.isolation },
    autoRemove: request.autoRemove ?? false,
    restart: request.restart,
    cold: request.cold,
    noWarm: request.noWarm,
  };
  return { spec: checkNetwork(host, spec), imageDigest: image.digest };
}

/** @throws HearthError `feature.missing` for an init that the image does not have */
function chooseInit(request: CreateVm, image: ImageRef, inits: readonly Init[]): Init {
  const init = request.init ?? inits[0] ?? "agent";
  if (inits.includes(init)) return init;
  const hint =
    init === "systemd"
      ? "Use the image debian-systemd, or leave --init out."
      : `It has: ${inits.join(", ")}.`;
  throw new HearthError("feature.missing", `init: the image ${image} does not have ${init}.`, { hint });
}

/**
 * Checks the restart policy. @throws HearthError `input.invalid` for a VM that is removed when it would be restarted
 */
export function checkRestart({
  restart = "no",
  autoRemove = false,
}: Pick<VmSpec, "restart"> & { autoRemove?: boolean | undefined }): void {
  if (restart === "no" || !autoRemove) return;
  throw new HearthError("input.invalid", `restart: ${restart} cannot be given with --rm.`, {
    hint: "Leave one of them out.",
  });
}

function imageOf({ image }: CreateVm): string {
  if (image !== undefined) return image;
  throw new HearthError("input.invalid", "image: an image or a snapshot must be given.", {
    hint: "Name an image such as debian, or a snapshot of `hearth snapshot ls`.",
  });
}

function readVolumes({ volumes = [] }: CreateVm): readonly VolumeMount[] {
  const mounts = volumes.map(({ name, path, readOnly = false }) => ({
    name: parseVolumeName(name),
    path: parseMountPath(path),
    readOnly,
  }));
  checkMounts(mounts);
  return mounts;
}

/** Returns the default number of CPUs of a VM that runs VMs itself; a driver refuses more at the start. */
async function nestedCpusMax(host: Host, driver: string | undefined, signal: AbortSignal): Promise<number> {
  const names = driver === undefined ? [...host.drivers.keys()] : [driver];
  for (const name of names) {
    const { available, nested } = await driverOf(host, name).features(signal);
    if (available.ok && nested !== undefined) return nested.cpusMax;
  }
  throw new HearthError("feature.missing", "nested: no driver on this host supports nested virtualization.", {
    hint: "Install the driver qemu: apt-get install qemu-system-x86",
  });
}

async function checkKernel(host: Host, release: string): Promise<void> {
  const kernels = await host.images.listKernels();
  if (kernels.some((kernel) => kernel.release === release)) return;
  // Builds of two images may have the same release.
  const known = [...new Set(kernels.map((kernel) => kernel.release))].join(", ");
  throw new HearthError("input.invalid", `kernel: there is no kernel ${JSON.stringify(release)}.`, {
    hint: known === "" ? "Leave it out to use the kernel of the image." : `Choose one of ${known}.`,
  });
}
