/**
 * A VM without Hearth around it: QEMU with the same kernel, initramfs, disks and arguments that hearthd gives
 * it, and the agent's client in this process. It is what Hearth is measured against.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { qemuArguments, qemuSockets } from "#drivers/qemu/command-line.ts";
import type { QemuMachine } from "#drivers/qemu/command-line.ts";
import { findFirmware } from "#drivers/qemu/features.ts";
import { readTscKhz } from "#drivers/qemu/host-clock.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import type { AgentClient } from "#guest/agent-client.ts";
import { waitForAgent } from "#guest/wait-for-agent.ts";
import { ImageCache } from "#images/image-cache.ts";
import { SILENT } from "#base/log.ts";
import type { ImageDigest } from "#model/ids.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import { createDisk } from "#storage/disks.ts";
import type { HearthHome } from "./hearth-home.ts";
import { QemuProcess } from "./qemu-process.ts";
import { qemuProgram } from "./qemu-program.ts";

const AGENT_DIR = join(import.meta.dirname, "../build/agent");
const BOOT_MS = 300_000;
/** hearthd starts it paused to record its console from the first byte; nobody does here. */
const PAUSED = "-S";

/**
 * Describes what hearthd makes of a VM's flags. It is learned from a VM of its own, so that both sides have the same.
 */
export type VmShape = {
  readonly digest: ImageDigest;
  readonly accel: "kvm" | "tcg";
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
};

/** A VM ready to be booted, its disk made. Disposing of it ends it and removes its directory. */
export class BareVm implements AsyncDisposable {
  readonly #dir: string;
  readonly #arguments: readonly string[];
  readonly #socket: string;
  #process: QemuProcess | undefined;
  #agent: AgentClient | undefined;

  private constructor(dir: string, plan: BootPlan, machine: QemuMachine) {
    this.#dir = dir;
    this.#arguments = qemuArguments(plan, machine).filter((word) => word !== PAUSED);
    this.#socket = qemuSockets(plan.runDir).agent;
  }

  /** Does all that is not booting. */
  static async prepare(home: HearthHome, shape: VmShape): Promise<BareVm> {
    const { signal } = new AbortController();
    const cache = new ImageCache({
      cacheDir: home.dirs.cache,
      agentPath: (arch) => join(AGENT_DIR, `hearth-agent-${arch}`),
      log: SILENT,
    });
    const boot = await cache.bootSet(shape.digest, {}, signal);
    const dir = mkdtempSync(join(home.dir, "bare-"));
    const disk = join(dir, "disk.raw");
    await createDisk(disk, shape.diskBytes, signal);
    const plan: BootPlan = {
      id: vmIdFrom(Buffer.alloc(12, 1)),
      name: parseVmName("bare"),
      stateDir: dir,
      runDir: dir,
      kernel: boot.kernel,
      initramfs: boot.initramfs,
      kernelArgs: ["hearth.root=overlay", "hearth.init=agent", "hearth.vm=bare"],
      disks: [
        { id: "base", path: boot.base, format: "raw", readOnly: true },
        { id: "own", path: disk, format: "raw", readOnly: false },
      ],
      cpus: shape.cpus,
      memoryBytes: shape.memoryBytes,
      nics: [],
      init: "agent",
      nested: false,
      isolation: NO_ISOLATION,
    };
    const firmware = await findFirmware(qemuProgram(), signal);
    return new BareVm(dir, plan, { accel: shape.accel, firmware, tscKhz: readTscKhz() });
  }

  /** Resolves with the milliseconds from the start of QEMU to the agent's first answer. */
  async boot(): Promise<number> {
    const startedMs = performance.now();
    this.#process = new QemuProcess(this.#arguments);
    this.#agent = (
      await waitForAgent({ agentSocket: this.#socket }, { deadlineMs: BOOT_MS }, this.#process.ended)
    ).agent;
    return performance.now() - startedMs;
  }

  /** Once it has booted. */
  get agent(): AgentClient {
    if (this.#agent === undefined) throw new Error("The bare VM has not booted.");
    return this.#agent;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#agent?.close();
    await this.#process?.[Symbol.asyncDispose]();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
