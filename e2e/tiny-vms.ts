/** VMs with nothing in them but a kernel and one system call, in a directory of their own. */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import type { BootIsolation } from "#drivers/boot-isolation.ts";
import { endProcess } from "#host/process-end.ts";
import { findOrphanVmms } from "#drivers/orphan-vmms.ts";
import { VM_NAMES } from "#base/file-names.ts";
import type { BootPlan, SnapshotFiles } from "#drivers/vm-driver.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import { balloonModules, DEBIAN_MODULES, debianKernel } from "./debian-kernel.ts";
import { readCounts, tinyInitramfs } from "./tiny-initramfs.ts";
import type { TinyInit } from "./tiny-initramfs.ts";

const MIB = 1024 ** 2;
const CONSOLE_SHOWN = 2_000;

/** Disposing of it ends what still runs and removes the directory. */
export class TinyVms implements AsyncDisposable {
  // The comma and the blank are there on purpose: QEMU's options split at commas.
  readonly dir = mkdtempSync(join(tmpdir(), "hearth e2e,"));
  readonly #runDirs: string[] = [];
  readonly #isolation: BootIsolation;
  readonly #modulesDir: string;

  /**
   * With a uid, run directories belong to it, as the helper would have it.
   * @param modulesDir modules of the kernel that plans name; left out when they name none
   */
  constructor(isolation: BootIsolation = NO_ISOLATION, modulesDir: string = DEBIAN_MODULES) {
    this.#isolation = isolation;
    this.#modulesDir = modulesDir;
  }

  /** `give` counts, too, and has loaded its balloon's driver before: it gives memory back when it is asked. */
  async plan(act: TinyInit | "give", more: Partial<BootPlan> = {}): Promise<BootPlan> {
    const number = this.#runDirs.length;
    const stateDir = join(this.dir, `state-${number}`);
    const runDir = join(this.dir, `run-${number}`);
    mkdirSync(stateDir, { mode: 0o700 });
    this.#makeDir(runDir);
    const saveDir = this.#makeDir(join(this.dir, `save-${number}`));
    this.#runDirs.push(runDir);
    const initramfs = join(this.dir, `${act}.cpio`);
    const kernel = more.kernel ?? (await debianKernel(AbortSignal.timeout(300_000)));
    const modules = act === "give" ? balloonModules(this.#modulesDir) : [];
    writeFileSync(initramfs, tinyInitramfs(act === "give" ? "count" : act, modules));
    return {
      id: vmIdFrom(Buffer.alloc(12, number)),
      name: parseVmName("tiny"),
      stateDir,
      runDir,
      saveDir,
      kernel,
      initramfs,
      kernelArgs: [],
      disks: [],
      cpus: 1,
      memoryBytes: 256 * MIB,
      nics: [],
      init: "agent",
      nested: false,
      isolation: {
        ...this.#isolation,
        seal: async () => this.#seal(runDir),
        giveMemoryCopy: async () => this.#give(join(stateDir, VM_NAMES.memoryCopy)),
      },
      ...more,
    };
  }

  /** Reads the numbers that the guest of a plan `count` has written so far. */
  counted({ stateDir }: Pick<VmHandle, "stateDir">): number[] {
    const log = join(stateDir, "console.log");
    return existsSync(log) ? readCounts(readFileSync(log, "latin1")) : [];
  }

  /** Paths in a new directory, where nothing is yet. */
  snapshotFiles(name: string): SnapshotFiles {
    const dir = this.#makeDir(join(this.dir, `saved-${name}`));
    return { memory: join(dir, "memory"), state: join(dir, "state") };
  }

  /** Seals as the helper does: a VMM with a uid makes and replaces nothing in the run directory from then on. */
  #seal(runDir: string): void {
    if (this.#isolation.uid === undefined) return;
    chownSync(runDir, 0, 0);
    chmodSync(runDir, 0o711);
  }

  #makeDir(path: string): string {
    mkdirSync(path, { mode: 0o700 });
    this.#give(path);
    return path;
  }

  #give(path: string): void {
    const { uid } = this.#isolation;
    if (uid !== undefined) chownSync(path, uid, uid);
  }

  /** Returns the end of each guest's console, and what each thread of its VMM waits for in the kernel. */
  describe(): string {
    return this.#runDirs
      .flatMap((runDir, number) => [
        consoleEnd(join(this.dir, `state-${number}`)),
        ...findOrphanVmms(runDir).map(({ pid }) => describeThreads(pid)),
      ])
      .join("\n");
  }

  /** Processes and sockets that are still there. */
  leftovers(): string[] {
    return this.#runDirs.flatMap((runDir) => [
      ...findOrphanVmms(runDir).map(({ pid }) => `process ${pid} of ${runDir}`),
      ...readdirSync(runDir).map((name) => `${runDir}/${name}`),
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const orphan of this.#runDirs.flatMap(findOrphanVmms))
      await endProcess(orphan, 0, new AbortController().signal);
    rmSync(this.dir, { recursive: true, force: true });
  }
}

function consoleEnd(stateDir: string): string {
  const log = join(stateDir, VM_NAMES.console);
  return existsSync(log) ? readFileSync(log, "latin1").slice(-CONSOLE_SHOWN) : `There is no ${log}.`;
}

/** The threads of a process: name, state, time on a CPU in ticks, and the function of the kernel that it waits in. */
function describeThreads(pid: number): string {
  const tasks = `/proc/${pid}/task`;
  return readdirSync(tasks)
    .map((tid) => {
      const stat = readFileSync(join(tasks, tid, "stat"), "latin1");
      const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      const name = readFileSync(join(tasks, tid, "comm"), "utf8").trim();
      const waiting = readFileSync(join(tasks, tid, "wchan"), "latin1");
      return `${tid} ${name} ${state} ${fields[10]}+${fields[11]} ticks ${waiting}`;
    })
    .join("\n");
}
