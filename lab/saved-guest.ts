/** A Debian guest that was saved with its processes held, as hearthd saves one; for measuring how it comes back. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { waitUntilReady } from "#drivers/firecracker/api/wait-until-ready.ts";
import { AGENT_VSOCK_PORT, firecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import type { FirecrackerDriver } from "#drivers/firecracker/firecracker-driver.ts";
import { makeRunFiles } from "#drivers/firecracker/run-dir.ts";
import type { BootPlan, SnapshotFiles } from "#drivers/vm-driver.ts";
import type { AgentClient, GuestIdentity } from "#guest/agent-client.ts";
import { reachAgent } from "#guest/wait-for-agent.ts";
import type { AgentAddress, VmHandle } from "#model/vm-handle.ts";
import { command } from "./command.ts";
import { ownedByVmm } from "./firecracker-plans.ts";
import type { FirecrackerPlans, PlannedVm } from "./firecracker-plans.ts";

const DEADLINE_MS = 180_000;
const FREEZE_MS = 10_000;
const { signal } = new AbortController();

/** As hearthd gives it to a guest of its own. */
export function identity(restored: boolean): GuestIdentity {
  return {
    hostname: "bench",
    unixTimeMs: Date.now(),
    entropy: crypto.getRandomValues(new Uint8Array(64)),
    machineId: "0".repeat(32),
    env: {},
    command: [],
    mounts: [],
    restored,
  };
}

/** `before`: what has to be said to the agent first. Ends with the command. */
export async function execTrue(
  address: AgentAddress,
  before: (agent: AgentClient) => Promise<unknown>,
): Promise<void> {
  const agent = await reachAgent(address, { deadlineMs: DEADLINE_MS }, signal);
  await before(agent);
  const spec = { argv: ["true"], env: {}, stdin: false, detach: false };
  for await (const event of agent.exec(spec, { id: "bench" }, signal)) void event;
  agent.close();
}

export class SavedGuest {
  readonly #plans: FirecrackerPlans;
  readonly #driver: FirecrackerDriver;
  readonly #saved: SnapshotFiles;
  readonly #disk: string;

  private constructor(plans: FirecrackerPlans, driver: FirecrackerDriver, dir: string) {
    this.#plans = plans;
    this.#driver = driver;
    this.#saved = { memory: join(dir, "memory"), state: join(dir, "state") };
    this.#disk = join(dir, "disk");
  }

  /** Boots one, runs a command in it, and saves it. */
  static async make(plans: FirecrackerPlans, driver: FirecrackerDriver, dir: string): Promise<SavedGuest> {
    mkdirSync(dir);
    const guest = new SavedGuest(plans, driver, dir);
    using source = await plans.make(true);
    const handle = await driver.boot(source.plan, () => {}, signal);
    try {
      await guest.#save(handle, source);
    } finally {
      await driver.stop(handle, "kill", signal);
    }
    return guest;
  }

  async #save(handle: VmHandle, { plan }: PlannedVm): Promise<void> {
    await execTrue(handle, (agent) => agent.configure(identity(false), signal));
    const agent = await reachAgent(handle, { deadlineMs: DEADLINE_MS }, signal);
    const own = plan.disks.find(({ readOnly }) => !readOnly)?.path ?? "";
    const hooks = {
      quiesce: async () =>
        void (await agent.freeze({ flush: false, timeoutMs: FREEZE_MS, untilThaw: true }, signal)),
      onPaused: () => copyDisk(own, this.#disk),
    };
    await this.#driver.snapshotter.save(handle, this.#saved, hooks, signal);
    agent.close();
  }

  /** As hearthd does it, with its walls: to the end of the first command. Resolves with the milliseconds. */
  async restoreByDriver(): Promise<number> {
    using vm = await this.#plans.make(true);
    const plan = await this.#onCopy(vm.plan);
    const startMs = performance.now();
    const handle = await this.#driver.snapshotter.restore(plan, this.#saved, () => {}, signal);
    try {
      await execTrue(handle, (agent) => agent.configure(identity(true), signal));
      return performance.now() - startMs;
    } finally {
      await this.#driver.stop(handle, "kill", signal);
    }
  }

  /** The shortest sequence of API calls to the same, without walls, and with a guest that stays who it was. */
  async restoreBare(): Promise<number> {
    using vm = await this.#plans.make(false);
    const plan = await this.#onCopy(vm.plan);
    const files = firecrackerFiles(plan.runDir);
    await makeRunFiles(plan, signal);
    const startMs = performance.now();
    const vmm = spawn("firecracker", ["--api-sock", files.api], { cwd: plan.runDir, stdio: "ignore" });
    const ended = once(vmm, "exit");
    try {
      const hasEnded = ended.then(([code]) => new Error(`Firecracker ended with ${code}.`));
      const wait = { socketPath: files.api, deadlineMs: DEADLINE_MS, hasEnded };
      const client = new FirecrackerClient({
        socketPath: files.api,
        version: await waitUntilReady(wait, signal),
      });
      const memBackend = { backendType: "File", backendPath: this.#saved.memory } as const;
      await client.loadSnapshot({ snapshotPath: this.#saved.state, memBackend, resumeVm: true }, signal);
      const address = { agentSocket: files.vsock, agentVsockPort: AGENT_VSOCK_PORT };
      await execTrue(address, (agent) => agent.thaw(Date.now(), signal));
      return performance.now() - startMs;
    } finally {
      vmm.kill("SIGKILL");
      await ended;
    }
  }

  /** With the walls, too: to the same point. */
  async bootByDriver(): Promise<number> {
    using vm = await this.#plans.make(true);
    const startMs = performance.now();
    const handle = await this.#driver.boot(vm.plan, () => {}, signal);
    try {
      await execTrue(handle, (agent) => agent.configure(identity(false), signal));
      return performance.now() - startMs;
    } finally {
      await this.#driver.stop(handle, "kill", signal);
    }
  }

  async #onCopy(plan: BootPlan): Promise<BootPlan> {
    for (const { path, readOnly } of plan.disks) if (!readOnly) await copyDisk(this.#disk, path);
    return ownedByVmm(plan);
  }
}

/** Its holes take no room in the lab, whose disk is memory. */
async function copyDisk(from: string, to: string): Promise<void> {
  await command("cp", ["--sparse=always", from, to]);
}
