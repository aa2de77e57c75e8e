/**
 * A VM restored without Hearth around it: QEMU with the arguments that hearthd gave a VM of the same template, no
 * jail, and the shortest way from its start to a first command. It is what a warm start is measured against.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { snapshotPaths } from "#daemon/store/paths.ts";
import { qemuSockets } from "#drivers/qemu/command-line.ts";
import { QmpMonitor } from "#drivers/qemu/qmp.ts";
import { VM_NAMES } from "#base/file-names.ts";
import { reachAgent } from "#guest/wait-for-agent.ts";
import { copySparse } from "#host/copy-sparse.ts";
import { listCommands } from "#host/procfs.ts";
import { connectWhenReady } from "#host/unix-socket.ts";
import type { SnapshotId } from "#model/ids.ts";
import { diskFromSnapshot } from "#storage/disk-layers.ts";
import type { HearthHome } from "./hearth-home.ts";
import { QemuProcess } from "./qemu-process.ts";
import type { Template } from "./template.ts";
import { execThrough } from "./transfer.ts";

const DEADLINE_MS = 60_000;
const POLL_MS = 1;
/** It keeps QEMU from starting the `cat` that reads the state. Part of the walls, so that this VM goes without. */
const SANDBOX = "-sandbox";

/** The command that hearthd starts QEMU with, for a VM with these directories. */
type Command = { readonly args: readonly string[]; readonly stateDir: string; readonly runDir: string };

/** Holds what all restores from one template have in common. */
export class RestoreScript {
  readonly #home: HearthHome;
  readonly #files: ReturnType<typeof snapshotPaths>;
  readonly #command: Command;

  private constructor(home: HearthHome, files: ReturnType<typeof snapshotPaths>, command: Command) {
    this.#home = home;
    this.#files = files;
    this.#command = command;
  }

  /** Asks a VM that hearthd restores. */
  static async learn(home: HearthHome, template: Template, flags: readonly string[]): Promise<RestoreScript> {
    await home.hearth("create", "--name", "bench-learn", ...flags, "debian");
    const vm = (await home.connect()).vm("bench-learn");
    const { pid, paths, restoredFrom } = await vm.show();
    const argv = listCommands().find((command) => command.pid === pid)?.argv ?? [];
    await vm.remove({ force: true });
    if (restoredFrom !== template.id) throw new Error(`The VM did not start from ${template.id}.`);
    const args = without(SANDBOX, argv.slice(1));
    const command = { args, stateDir: paths.state, runDir: paths.sockets };
    return new RestoreScript(home, snapshotPaths(home.dirs, template.id as SnapshotId), command);
  }

  /** Does all that is not restoring. */
  async prepare(): Promise<RestoredVm> {
    const dir = mkdtempSync(join(this.#home.dir, "bare-"));
    await diskFromSnapshot(this.#files.dir, dir, "qcow2", new AbortController().signal);
    const { args, stateDir, runDir } = this.#command;
    // An older QEMU maps a copy, whose name hearthd has removed by now.
    if (args.some((arg) => arg.includes(`/${VM_NAMES.memoryCopy},`)))
      await copySparse(this.#files.memory, join(dir, VM_NAMES.memoryCopy), new AbortController().signal);
    const own = args.map((arg) => arg.replaceAll(stateDir, dir).replaceAll(runDir, dir));
    return new RestoredVm(dir, own, this.#files.state);
  }
}

/** Disposing of it ends it and removes its directory. */
export class RestoredVm implements AsyncDisposable {
  readonly #dir: string;
  readonly #args: readonly string[];
  readonly #state: string;
  #process: QemuProcess | undefined;

  /** @param args with its own directory in them */
  constructor(dir: string, args: readonly string[], state: string) {
    this.#dir = dir;
    this.#args = args;
    this.#state = state;
  }

  /** Resolves with the milliseconds from the start of QEMU to the end of the first command. */
  async restore(): Promise<number> {
    const startedMs = performance.now();
    const sockets = qemuSockets(this.#dir);
    this.#process = new QemuProcess(this.#args);
    const { ended } = this.#process;
    const socket = await connectWhenReady(sockets.monitor, undefined, () => undefined, ended);
    const monitor = await QmpMonitor.open(socket, () => {}, DEADLINE_MS);
    await load(monitor, this.#state);
    await monitor.send("cont", undefined, DEADLINE_MS);
    const agent = await reachAgent({ agentSocket: sockets.agent }, { deadlineMs: DEADLINE_MS }, ended);
    // It was saved with its processes held. This is the least that lets a command run; the guest stays who it was.
    await agent.thaw(Date.now(), ended);
    await execThrough(agent, ["true"]);
    const tookMs = performance.now() - startedMs;
    agent.close();
    monitor.close();
    return tookMs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.[Symbol.asyncDispose]();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

async function load(monitor: QmpMonitor, state: string): Promise<void> {
  const capabilities = [{ capability: "x-ignore-shared", state: true }];
  await monitor.send("migrate-set-capabilities", { capabilities }, DEADLINE_MS);
  await monitor.send("migrate-incoming", { uri: `exec:cat ${state}` }, DEADLINE_MS);
  for (;;) {
    const progress = await monitor.send("query-migrate", undefined, DEADLINE_MS);
    if (progress.status === "completed") return;
    if (progress.status === "failed") throw new Error(`QEMU does not take ${state}.`);
    await sleep(POLL_MS);
  }
}

/** Without an option that takes one word. */
function without(option: string, args: readonly string[]): string[] {
  const at = args.indexOf(option);
  return at === -1 ? [...args] : args.toSpliced(at, 2);
}
