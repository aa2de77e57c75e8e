/** A Hearth of its own for the measurements: fresh directories, the user's own image cache, a real hearthd. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { hearthDirs } from "#base/hearth-dirs.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcessesNaming } from "#host/find-processes.ts";
import { findProcess } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { Hearth } from "#sdk/hearth.ts";
import { givenQemu } from "./qemu-program.ts";

const ROOT = join(import.meta.dirname, "..");
const COMMAND_MS = 600_000;
const STAT_BLOCK_BYTES = 512;

/** Disposing of it ends hearthd and the VMs that are left, and removes the directories. */
export class HearthHome implements AsyncDisposable {
  readonly dir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly dirs: Dirs;
  readonly #checkout: string;

  /**
   * @param checkout of the Hearth that is measured: this one, or an earlier one, which takes no `--qemu` and cannot
   * boot the images of a later one: it has a cache of its own
   */
  constructor(checkout: string = ROOT) {
    this.#checkout = checkout;
    // Short, because socket paths hold 107 bytes.
    this.dir = mkdtempSync("/tmp/hbench-");
    this.env = {
      PATH: process.env["PATH"] ?? "",
      HOME: this.dir,
      XDG_CONFIG_HOME: join(this.dir, "config"),
      XDG_STATE_HOME: join(this.dir, "state"),
      XDG_RUNTIME_DIR: join(this.dir, "run"),
      XDG_CACHE_HOME: checkout === ROOT ? usersCache() : join(checkout, "build/cache"),
    };
    this.dirs = hearthDirs(this.env, this.dir);
    this.configure("");
  }

  /** Runs `./hearth` as a person does, without a terminal. Resolves with the milliseconds that it took. */
  async hearth(...args: readonly string[]): Promise<number> {
    return (await this.#run(join(this.#checkout, "hearth"), args)).tookMs;
  }

  /** Runs a command as `hearth` does, and resolves with its stdout. */
  async ask(...args: readonly string[]): Promise<string> {
    return (await this.#run(join(this.#checkout, "hearth"), args)).stdout;
  }

  /** The least that a program on this Node can take. */
  async emptyNode(): Promise<number> {
    return (await this.#run(process.execPath, ["-e", "0"])).tookMs;
  }

  /** For the hearthd that is yet to start. */
  configure(toml: string): void {
    const qemu = this.#checkout === ROOT ? givenQemu() : undefined;
    const program = qemu === undefined ? "" : `[drivers.qemu]\nprogram = ${JSON.stringify(qemu)}\n`;
    mkdirSync(this.dirs.config, { recursive: true });
    writeFileSync(join(this.dirs.config, "config.toml"), `${program}${toml}`);
  }

  connect(): Promise<Hearth> {
    return Hearth.connect({ env: this.env });
  }

  /** hearthd, started where it does not run. */
  async daemon(): Promise<ProcessRef> {
    const { pid } = await (await this.connect()).daemon.status();
    const process = findProcess(pid);
    if (process === undefined) throw new Error(`hearthd, process ${pid}, is gone.`);
    return process;
  }

  /** Returns the disk space that all of Hearth's files take, with the cache. Shared blocks count for each file. */
  diskBytes(): number {
    return [this.dir, this.dirs.cache].reduce((sum, dir) => sum + blocksIn(dir), 0) * STAT_BLOCK_BYTES;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const deadline = AbortSignal.timeout(60_000);
    const daemon = await this.#runningDaemon();
    if (daemon !== undefined) await endProcess(daemon, 5_000, deadline);
    for (const vmm of findProcessesNaming([this.dir], /^qemu-system-/)) await endProcess(vmm, 0, deadline);
    rmSync(this.dir, { recursive: true, force: true });
  }

  async #runningDaemon(): Promise<ProcessRef | undefined> {
    try {
      const hearth = await Hearth.connect({ env: this.env, autostart: false });
      return findProcess((await hearth.daemon.status()).pid);
    } catch {
      return undefined; // It was never started, or has ended.
    }
  }

  #run(file: string, args: readonly string[]): Promise<{ tookMs: number; stdout: string }> {
    const startedMs = performance.now();
    // What it prints is read, as a pipe's other end would, and shown if it fails.
    const child = spawn(file, args, {
      env: this.env,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: COMMAND_MS,
    });
    let said = "";
    let stdout = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        said += text;
        if (stream === child.stdout) stdout += text;
      });
    return new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (code) => {
        const tookMs = performance.now() - startedMs;
        if (code === 0) resolve({ tookMs, stdout });
        else reject(new Error(`\`${[file, ...args].join(" ")}\` ended with ${code}:\n${said.slice(-2_000)}`));
      });
    });
  }
}

function blocksIn(dir: string): number {
  let blocks = 0;
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    const stats = statSync(join(entry.parentPath, entry.name), { throwIfNoEntry: false });
    blocks += stats?.blocks ?? 0;
  }
  return blocks;
}

function usersCache(): string {
  return process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
}
