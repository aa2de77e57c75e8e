import { type ApiRequest, apiRequest } from "#drivers/firecracker/api/api-request.ts";
import type { InstanceInfo, VmConfig } from "#drivers/firecracker/api/answers.ts";
import * as balloons from "#drivers/firecracker/api/balloon.ts";
import { type CpuConfig, putCpuConfig } from "#drivers/firecracker/api/cpu-config.ts";
import { type Drive, type DrivePatch, patchDrive, putDrive } from "#drivers/firecracker/api/drive.ts";
import { type Entropy, putEntropy } from "#drivers/firecracker/api/entropy.ts";
import {
  type ApiAnswer,
  type ApiSocket,
  describeRequest,
  exchange,
  refusal,
} from "#drivers/firecracker/api/exchange.ts";
import { type FirecrackerConfig, planConfigure } from "#drivers/firecracker/api/firecracker-config.ts";
import type { FirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { fromWire } from "#drivers/firecracker/api/from-wire.ts";
import * as machines from "#drivers/firecracker/api/machine.ts";
import * as hotplugs from "#drivers/firecracker/api/memory-hotplug.ts";
import * as metadata from "#drivers/firecracker/api/mmds.ts";
import * as networks from "#drivers/firecracker/api/network-interface.ts";
import * as outputs from "#drivers/firecracker/api/outputs.ts";
import { patchPmem, type Pmem, type PmemPatch, putPmem } from "#drivers/firecracker/api/pmem.ts";
import {
  createSnapshot,
  loadSnapshot,
  type SnapshotCreate,
  type SnapshotLoad,
} from "#drivers/firecracker/api/snapshot.ts";
import { requireFeatures } from "#drivers/firecracker/api/version-features.ts";
import { patchVm, putAction, type VmAction } from "#drivers/firecracker/api/vm-action.ts";
import { putVsock, type Vsock } from "#drivers/firecracker/api/vsock.ts";
import { readVersion } from "#drivers/firecracker/api/wait-until-ready.ts";

/** Configuring takes microseconds; a start with emulated KVM took 1.3 s. Longer is a hang. */
const DEADLINE_MS = 30_000;
/** Memory goes to disk here: 256 MiB took 6 s on an emulated host. */
const SNAPSHOT_DEADLINE_MS = 300_000;

export type FirecrackerClientOptions = {
  readonly socketPath: string;
  /** The uid that must own the socket; undefined: hearthd's uid. */
  readonly socketOwner?: number | undefined;
  /** The version decides which requests are allowed. From `firecracker --version`, or from `waitUntilReady`. */
  readonly version: FirecrackerVersion;
  /** The deadline of each request. Default 30 s. */
  readonly deadlineMs?: number | undefined;
  /** The deadline of each request about snapshots. Default 5 min. */
  readonly snapshotDeadlineMs?: number | undefined;
};

/**
 * Firecracker's API, one method for each operation. It keeps no connection and no state, so there is nothing to close.
 * Every method throws HearthError: `input.invalid` for values that break a rule and `feature.missing` for what this
 * version lacks, both before anything is sent; `vmm.failed` with Firecracker's reason; `vmm.unresponsive` after the
 * deadline; and the reason of `signal`.
 */
export class FirecrackerClient {
  readonly socketPath: string;
  readonly version: FirecrackerVersion;
  readonly #socket: ApiSocket;
  readonly #deadlineMs: number;
  readonly #snapshotDeadlineMs: number;

  constructor(options: FirecrackerClientOptions) {
    this.socketPath = options.socketPath;
    this.#socket = { socketPath: options.socketPath, socketOwner: options.socketOwner };
    this.version = options.version;
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS;
    this.#snapshotDeadlineMs = options.snapshotDeadlineMs ?? SNAPSHOT_DEADLINE_MS;
  }

  /** Sends the whole configuration before the start; sends nothing unless all of it is allowed. */
  async configure(config: FirecrackerConfig, signal: AbortSignal): Promise<void> {
    const requests = planConfigure(config);
    for (const request of requests) requireFeatures(request, this.version);
    for (const request of requests) await this.#send(request, signal);
  }

  async describeInstance(signal: AbortSignal): Promise<InstanceInfo> {
    return this.#get("/", signal);
  }
  async getVersion(signal: AbortSignal): Promise<FirecrackerVersion> {
    return readVersion((await this.#send(apiRequest("GET", "/version"), signal)).body);
  }
  async getVmConfig(signal: AbortSignal): Promise<VmConfig> {
    return this.#get("/vm/config", signal);
  }

  /** Starts the guest; it runs when this resolves. */
  async startInstance(signal: AbortSignal): Promise<void> {
    return this.#act("InstanceStart", signal);
  }
  /** Asks an x86 guest to shut down; has no effect in a guest without a keyboard driver. */
  async sendCtrlAltDel(signal: AbortSignal): Promise<void> {
    return this.#act("SendCtrlAltDel", signal);
  }
  /** Has Firecracker write a line of metrics now, besides the one each minute. */
  async flushMetrics(signal: AbortSignal): Promise<void> {
    return this.#act("FlushMetrics", signal);
  }
  /** Pauses the vCPUs. Check `findFault(version, "vm")` first where the guest is reached by vsock. */
  async pauseVm(signal: AbortSignal): Promise<void> {
    return this.#do(patchVm("Paused"), signal);
  }
  async resumeVm(signal: AbortSignal): Promise<void> {
    return this.#do(patchVm("Resumed"), signal);
  }

  async putBootSource(source: machines.BootSource, signal: AbortSignal): Promise<void> {
    return this.#do(machines.putBootSource(source), signal);
  }
  async getMachineConfig(signal: AbortSignal): Promise<machines.MachineConfig> {
    return this.#get("/machine-config", signal);
  }
  async putMachineConfig(config: machines.MachineConfig, signal: AbortSignal): Promise<void> {
    return this.#do(machines.putMachineConfig(config), signal);
  }
  async patchMachineConfig(config: Partial<machines.MachineConfig>, signal: AbortSignal): Promise<void> {
    return this.#do(machines.patchMachineConfig(config), signal);
  }
  async putCpuConfig(config: CpuConfig, signal: AbortSignal): Promise<void> {
    return this.#do(putCpuConfig(config), signal);
  }

  async putDrive(drive: Drive, signal: AbortSignal): Promise<void> {
    return this.#do(putDrive(drive), signal);
  }
  /** Changes the file or the limits of a running VM's drive. */
  async patchDrive(patch: DrivePatch, signal: AbortSignal): Promise<void> {
    return this.#do(patchDrive(patch), signal);
  }
  async putPmem(pmem: Pmem, signal: AbortSignal): Promise<void> {
    return this.#do(putPmem(pmem), signal);
  }
  async patchPmem(patch: PmemPatch, signal: AbortSignal): Promise<void> {
    return this.#do(patchPmem(patch), signal);
  }
  async putNetworkInterface(iface: networks.NetworkInterface, signal: AbortSignal): Promise<void> {
    return this.#do(networks.putNetworkInterface(iface), signal);
  }
  /** Changes the limits of a running VM's interface. */
  async patchNetworkInterface(patch: networks.NetworkInterfacePatch, signal: AbortSignal): Promise<void> {
    return this.#do(networks.patchNetworkInterface(patch), signal);
  }
  async putVsock(vsock: Vsock, signal: AbortSignal): Promise<void> {
    return this.#do(putVsock(vsock), signal);
  }
  async putEntropy(entropy: Entropy, signal: AbortSignal): Promise<void> {
    return this.#do(putEntropy(entropy), signal);
  }

  async getBalloon(signal: AbortSignal): Promise<balloons.Balloon> {
    return this.#get("/balloon", signal);
  }
  async putBalloon(balloon: balloons.Balloon, signal: AbortSignal): Promise<void> {
    return this.#do(balloons.putBalloon(balloon), signal);
  }
  /** Sets the balloon's target, also of a running VM; the guest takes its time to follow. */
  async patchBalloon(patch: balloons.BalloonPatch, signal: AbortSignal): Promise<void> {
    return this.#do(balloons.patchBalloon(patch), signal);
  }
  async getBalloonStatistics(signal: AbortSignal): Promise<balloons.BalloonStatistics> {
    return this.#get("/balloon/statistics", signal);
  }
  async patchBalloonStatistics(patch: balloons.BalloonStatisticsPatch, signal: AbortSignal): Promise<void> {
    return this.#do(balloons.patchBalloonStatistics(patch), signal);
  }
  async startBalloonHinting(start: balloons.BalloonHintingStart, signal: AbortSignal): Promise<void> {
    return this.#do(balloons.startBalloonHinting(start), signal);
  }
  async stopBalloonHinting(signal: AbortSignal): Promise<void> {
    return this.#do(apiRequest("PATCH", "/balloon/hinting/stop"), signal);
  }
  async getBalloonHintingStatus(signal: AbortSignal): Promise<balloons.BalloonHintingStatus> {
    return this.#get("/balloon/hinting/status", signal);
  }
  async getMemoryHotplug(signal: AbortSignal): Promise<hotplugs.MemoryHotplugStatus> {
    return this.#get("/hotplug/memory", signal);
  }
  async putMemoryHotplug(hotplug: hotplugs.MemoryHotplug, signal: AbortSignal): Promise<void> {
    return this.#do(hotplugs.putMemoryHotplug(hotplug), signal);
  }
  async patchMemoryHotplug(patch: hotplugs.MemoryHotplugPatch, signal: AbortSignal): Promise<void> {
    return this.#do(hotplugs.patchMemoryHotplug(patch), signal);
  }

  async putMmdsConfig(config: metadata.MmdsConfig, signal: AbortSignal): Promise<void> {
    return this.#do(metadata.putMmdsConfig(config), signal);
  }
  /** Returns the contents unchanged: their keys are the guest's. */
  async getMmds(signal: AbortSignal): Promise<unknown> {
    return (await this.#send(apiRequest("GET", "/mmds"), signal)).body;
  }
  async putMmds(contents: metadata.MmdsContents, signal: AbortSignal): Promise<void> {
    return this.#do(metadata.putMmds(contents), signal);
  }
  async patchMmds(contents: metadata.MmdsContents, signal: AbortSignal): Promise<void> {
    return this.#do(metadata.patchMmds(contents), signal);
  }

  async putLogger(logger: outputs.Logger, signal: AbortSignal): Promise<void> {
    return this.#do(outputs.putLogger(logger), signal);
  }
  async putMetrics(metrics: outputs.Metrics, signal: AbortSignal): Promise<void> {
    return this.#do(outputs.putMetrics(metrics), signal);
  }
  async putSerial(serial: outputs.Serial, signal: AbortSignal): Promise<void> {
    return this.#do(outputs.putSerial(serial), signal);
  }

  /** Saves a paused VM, without its disks. */
  async createSnapshot(create: SnapshotCreate, signal: AbortSignal): Promise<void> {
    return this.#do(createSnapshot(create), signal);
  }
  /** Loads a snapshot into a process in which only logger and metrics were configured. */
  async loadSnapshot(load: SnapshotLoad, signal: AbortSignal): Promise<void> {
    return this.#do(loadSnapshot(load, this.version), signal);
  }

  #act(action: VmAction, signal: AbortSignal): Promise<void> {
    return this.#do(putAction(action), signal);
  }

  async #get<Answer extends object>(path: string, signal: AbortSignal): Promise<Answer> {
    const request = apiRequest("GET", path);
    return fromWire<Answer>(describeRequest(request), (await this.#send(request, signal)).body);
  }

  async #do(request: ApiRequest, signal: AbortSignal): Promise<void> {
    await this.#send(request, signal);
  }

  /** Sends every request of this client, and first checks that the version supports it. */
  async #send(request: ApiRequest, signal: AbortSignal): Promise<ApiAnswer> {
    requireFeatures(request, this.version);
    const isSnapshot = request.path.startsWith("/snapshot/");
    const deadlineMs = isSnapshot ? this.#snapshotDeadlineMs : this.#deadlineMs;
    const answer = await exchange(this.#socket, request, deadlineMs, signal);
    if (!answer.ok) throw refusal(request, answer);
    return answer;
  }
}
