/** Describes and checks everything that Firecracker is told of a VM before the start, and orders the requests. */
import type { HearthError } from "#base/error.ts";
import type { ApiRequest } from "#drivers/firecracker/api/api-request.ts";
import { type Balloon, checkBalloon, putBalloon } from "#drivers/firecracker/api/balloon.ts";
import { checkCpuConfig, type CpuConfig, putCpuConfig } from "#drivers/firecracker/api/cpu-config.ts";
import { checkDrive, type Drive, putDrive } from "#drivers/firecracker/api/drive.ts";
import { checkEntropy, type Entropy, putEntropy } from "#drivers/firecracker/api/entropy.ts";
import {
  type BootSource,
  checkBootSource,
  checkMachineConfig,
  type MachineConfig,
  putBootSource,
  putMachineConfig,
} from "#drivers/firecracker/api/machine.ts";
import {
  checkMemoryHotplug,
  type MemoryHotplug,
  putMemoryHotplug,
} from "#drivers/firecracker/api/memory-hotplug.ts";
import {
  checkMmdsConfig,
  type MmdsConfig,
  type MmdsContents,
  putMmds,
  putMmdsConfig,
} from "#drivers/firecracker/api/mmds.ts";
import {
  checkNetworkInterface,
  type NetworkInterface,
  putNetworkInterface,
} from "#drivers/firecracker/api/network-interface.ts";
import {
  checkLogger,
  checkMetrics,
  checkSerial,
  type Logger,
  type Metrics,
  putLogger,
  putMetrics,
  putSerial,
  type Serial,
} from "#drivers/firecracker/api/outputs.ts";
import { checkPmem, type Pmem, putPmem } from "#drivers/firecracker/api/pmem.ts";
import { Problems } from "#drivers/firecracker/api/problems.ts";
import { checkVsock, putVsock, type Vsock } from "#drivers/firecracker/api/vsock.ts";

/** The configuration of a VM. An absent section is not sent. */
export type FirecrackerConfig = {
  readonly bootSource: BootSource;
  readonly machineConfig: MachineConfig;
  readonly cpuConfig?: CpuConfig | undefined;
  readonly drives?: readonly Drive[] | undefined;
  readonly pmem?: readonly Pmem[] | undefined;
  readonly networkInterfaces?: readonly NetworkInterface[] | undefined;
  readonly mmds?: MmdsConfig | undefined;
  readonly mmdsContents?: MmdsContents | undefined;
  readonly vsock?: Vsock | undefined;
  readonly entropy?: Entropy | undefined;
  readonly balloon?: Balloon | undefined;
  readonly memoryHotplug?: MemoryHotplug | undefined;
  readonly logger?: Logger | undefined;
  readonly metrics?: Metrics | undefined;
  readonly serial?: Serial | undefined;
};

/** Returns all problems, one `input.invalid` each, with field, rule and value; empty when there are none. */
export function validateConfig(config: FirecrackerConfig): readonly HearthError[] {
  return findProblems(withoutNulls(config)).all;
}

/**
 * Returns the requests that configure this VM, in the order that Firecracker needs: logger and metrics first, so that
 * they cover the rest; the machine before what is compared with its memory; interfaces before MMDS, which names them.
 * Requests have copies: later changes of `given` do not matter.
 * @throws HearthError `input.invalid` with all problems
 */
export function planConfigure(given: FirecrackerConfig): readonly ApiRequest[] {
  const config = withoutNulls(given);
  findProblems(config).throwIfAny();
  const requests: (ApiRequest | undefined)[] = [
    config.logger && putLogger(config.logger),
    config.metrics && putMetrics(config.metrics),
    config.serial && putSerial(config.serial),
    putMachineConfig(config.machineConfig),
    config.cpuConfig && putCpuConfig(config.cpuConfig),
    putBootSource(config.bootSource),
    ...(config.drives ?? []).map(putDrive),
    ...(config.pmem ?? []).map(putPmem),
    ...(config.networkInterfaces ?? []).map(putNetworkInterface),
    config.mmds && putMmdsConfig(config.mmds),
    config.mmdsContents && putMmds(config.mmdsContents),
    config.vsock && putVsock(config.vsock),
    config.entropy && putEntropy(config.entropy),
    config.balloon && putBalloon(config.balloon),
    config.memoryHotplug && putMemoryHotplug(config.memoryHotplug),
  ];
  return requests.filter((request) => request !== undefined);
}

/**
 * Removes nulls, which a configuration that was read from JSON may have for absent values. In the guest's metadata null
 * stays.
 */
function withoutNulls(config: FirecrackerConfig): FirecrackerConfig {
  const { mmdsContents, ...rest } = config;
  return { ...(absentForNull(rest) as typeof rest), mmdsContents: mmdsContents ?? undefined };
}

function absentForNull(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(absentForNull);
  if (typeof value !== "object" || value === null) return value;
  const given = Object.entries(value).filter(([, inner]) => inner !== null && inner !== undefined);
  return Object.fromEntries(given.map(([key, inner]) => [key, absentForNull(inner)]));
}

function findProblems(config: FirecrackerConfig): Problems {
  const problems = new Problems();
  const { bootSource, machineConfig } = config;
  if (problems.required("bootSource", bootSource)) checkBootSource(problems, "bootSource", bootSource);
  if (problems.required("machineConfig", machineConfig)) {
    problems.required("machineConfig.vcpuCount", machineConfig.vcpuCount);
    problems.required("machineConfig.memSizeMib", machineConfig.memSizeMib);
    checkMachineConfig(problems, "machineConfig", machineConfig);
  }
  for (const [i, drive] of (config.drives ?? []).entries()) checkDrive(problems, `drives[${i}]`, drive);
  for (const [i, pmem] of (config.pmem ?? []).entries()) checkPmem(problems, `pmem[${i}]`, pmem);
  for (const [i, iface] of (config.networkInterfaces ?? []).entries())
    checkNetworkInterface(problems, `networkInterfaces[${i}]`, iface);
  if (config.cpuConfig) checkCpuConfig(problems, "cpuConfig", config.cpuConfig);
  if (config.mmds) checkMmdsConfig(problems, "mmds", config.mmds);
  if (config.vsock) checkVsock(problems, "vsock", config.vsock);
  if (config.entropy) checkEntropy(problems, "entropy", config.entropy);
  if (config.balloon) checkBalloon(problems, "balloon", config.balloon);
  if (config.memoryHotplug) checkMemoryHotplug(problems, "memoryHotplug", config.memoryHotplug);
  if (config.logger) checkLogger(problems, "logger", config.logger);
  if (config.metrics) checkMetrics(problems, "metrics", config.metrics);
  if (config.serial) checkSerial(problems, "serial", config.serial);
  checkTogether(problems, config);
  return problems;
}

/** Checks the rules that concern several sections. */
function checkTogether(problems: Problems, config: FirecrackerConfig): void {
  const { drives = [], pmem = [], networkInterfaces = [], mmds, balloon, machineConfig } = config;
  const roots = [
    ...drives.filter((drive) => drive.isRootDevice).map((drive) => drive.driveId),
    ...pmem.filter((device) => device.rootDevice).map((device) => device.id),
  ];
  problems.check(roots.length <= 1, "drives", "with one root device at most", roots);
  checkUnique(
    problems,
    "drives",
    drives.map((drive) => drive.driveId),
  );
  checkUnique(
    problems,
    "pmem",
    pmem.map((device) => device.id),
  );
  const ifaceIds = networkInterfaces.map((iface) => iface.ifaceId);
  checkUnique(problems, "networkInterfaces", ifaceIds);
  for (const [i, id] of (mmds?.networkInterfaces ?? []).entries())
    problems.check(ifaceIds.includes(id), `mmds.networkInterfaces[${i}]`, "one of networkInterfaces", id);
  const memSizeMib = machineConfig?.memSizeMib;
  const isWithinMemory = !balloon || memSizeMib === undefined || balloon.amountMib <= memSizeMib;
  problems.check(
    isWithinMemory,
    "balloon.amountMib",
    `<= machineConfig.memSizeMib (${memSizeMib})`,
    balloon?.amountMib,
  );
}

function checkUnique(problems: Problems, field: string, ids: readonly string[]): void {
  const twice = ids.filter((id, i) => ids.indexOf(id) !== i);
  problems.check(twice.length === 0, field, "with different ids", twice);
}
