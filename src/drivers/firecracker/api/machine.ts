/** Kernel, vCPUs and memory, which are set before the start only. */
import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";

export type BootSource = {
  readonly kernelImagePath: string;
  readonly bootArgs?: string | undefined;
  readonly initrdPath?: string | undefined;
};

const CPU_TEMPLATES = ["C3", "T2", "T2S", "T2CL", "T2A", "V1N1", "None"] as const;
/** `Transparent` since 1.17. */
export const HUGE_PAGES = ["None", "Transparent", "2M"] as const;

export type HugePages = (typeof HUGE_PAGES)[number];

export type MachineConfig = {
  /** 1 to 32; with `smt` 1 or an even number. */
  readonly vcpuCount: number;
  readonly memSizeMib: number;
  /** x86_64 only. */
  readonly smt?: boolean | undefined;
  /** Deprecated by Firecracker in favour of a CPU config. */
  readonly cpuTemplate?: (typeof CPU_TEMPLATES)[number] | undefined;
  /** Required by diff snapshots that contain only changes. */
  readonly trackDirtyPages?: boolean | undefined;
  readonly hugePages?: HugePages | undefined;
};

const VCPUS_MAX = 32;

/** Returns the body of `PUT /boot-source`. Pure. */
export function bootSourcePayload(source: BootSource): Payload {
  return payload({
    kernel_image_path: source.kernelImagePath,
    boot_args: source.bootArgs,
    initrd_path: source.initrdPath,
  });
}

/** Returns a body; that of a PATCH may have a part of the fields. Pure. */
export function machineConfigPayload(config: Partial<MachineConfig>): Payload {
  return payload({
    vcpu_count: config.vcpuCount,
    mem_size_mib: config.memSizeMib,
    smt: config.smt,
    cpu_template: config.cpuTemplate,
    track_dirty_pages: config.trackDirtyPages,
    huge_pages: config.hugePages,
  });
}

/** Checks the rules of the boot source. Firecracker itself checks whether the file is a kernel. */
export function checkBootSource(problems: Problems, at: string, source: BootSource): void {
  if (problems.required(`${at}.kernelImagePath`, source.kernelImagePath))
    problems.path(`${at}.kernelImagePath`, source.kernelImagePath);
  problems.path(`${at}.initrdPath`, source.initrdPath);
}

/** Checks the rules of the given fields; a PATCH may leave out any of them. */
export function checkMachineConfig(problems: Problems, at: string, config: Partial<MachineConfig>): void {
  const { vcpuCount, memSizeMib, smt, hugePages } = config;
  problems.integer(`${at}.vcpuCount`, vcpuCount, 1, VCPUS_MAX);
  const paired = smt !== true || vcpuCount === undefined || vcpuCount === 1 || vcpuCount % 2 === 0;
  problems.check(paired, `${at}.vcpuCount`, "1 or even with smt", vcpuCount);
  problems.integer(`${at}.memSizeMib`, memSizeMib, 1);
  const huge = hugePages === "2M" || hugePages === "Transparent";
  const isEven = !huge || memSizeMib === undefined || memSizeMib % 2 === 0;
  problems.check(isEven, `${at}.memSizeMib`, `even with hugePages ${hugePages}`, memSizeMib);
  problems.oneOf(`${at}.hugePages`, hugePages, HUGE_PAGES);
  problems.oneOf(`${at}.cpuTemplate`, config.cpuTemplate, CPU_TEMPLATES);
}

/** @throws HearthError `input.invalid` */
export function putBootSource(source: BootSource): ApiRequest {
  checked((problems) => checkBootSource(problems, "bootSource", source));
  return apiRequest("PUT", "/boot-source", bootSourcePayload(source));
}

/** Returns a request that sets absent fields to Firecracker's defaults. @throws HearthError `input.invalid` */
export function putMachineConfig(config: MachineConfig): ApiRequest {
  checked((problems) => {
    problems.required("machineConfig.vcpuCount", config.vcpuCount);
    problems.required("machineConfig.memSizeMib", config.memSizeMib);
    checkMachineConfig(problems, "machineConfig", config);
  });
  return apiRequest("PUT", "/machine-config", machineConfigPayload(config));
}

/** Returns a request that leaves absent fields unchanged. @throws HearthError `input.invalid` */
export function patchMachineConfig(config: Partial<MachineConfig>): ApiRequest {
  checked((problems) => checkMachineConfig(problems, "machineConfig", config));
  return apiRequest("PATCH", "/machine-config", machineConfigPayload(config));
}
