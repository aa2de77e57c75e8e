/** Runs tools on files that a VMM could have written, with no more rights than a VMM has. */
import { constants, realpathSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { failAfter } from "#base/clean-up.ts";
import { HearthError, invariant } from "#base/error.ts";
import { GIB } from "#base/sizes.ts";
import { findProgram } from "#host/find-program.ts";
import { missingTool, run } from "#host/run.ts";
import { findSandboxHost } from "#host/sandbox-host.ts";
import { passFiles, programFiles } from "#host/sandbox-root.ts";
import type { SandboxFile } from "#host/sandbox-root.ts";
import { toolCommand } from "#host/tool-command.ts";

/** A uid that no other process has until it is disposed of. */
export type ToolUid = AsyncDisposable & {
  readonly uid: number;
  /** Tells whether a file to write may belong to a uid; undefined allows all. */
  readonly from?: ((uid: number) => boolean) | undefined;
  /** The owner of the written files afterwards; by default this process. */
  readonly owner?: { readonly uid: number; readonly gid: number } | undefined;
};

/**
 * Opens the files that a tool sees, so that they cannot be exchanged. Files without an open file are mounted by path.
 */
export type ShowFiles = (
  files: readonly SandboxFile[],
  signal: AbortSignal,
) => Promise<Disposable & { readonly files: readonly SandboxFile[] }>;

const BY_PATH: ShowFiles = (files) => Promise.resolve({ files, [Symbol.dispose]() {} });

export type ToolRun = {
  /** The name of a program on PATH. */
  readonly program: string;
  readonly args: readonly string[];
  /** Absolute paths of files that every uid may read: frozen files. */
  readonly reads: readonly string[];
  /** Absolute paths of existing files with one name, which no other process has open. */
  readonly writes: readonly string[];
  /** The maximum size of a file that the tool writes. */
  readonly fileMaxBytes: number;
  readonly timeoutMs: number;
};

/** qemu-img takes 0.7 GiB of address space for a copy with eight threads, and a tenth of that as memory. */
const MEMORY_MAX_BYTES = 2 * GIB;
/** The fd after stdin, stdout and stderr. */
const FIRST_FILE_FD = 3;
const USE = { subject: "tools that read disks" };

/** hearthd's only sandbox for tools. It cannot be avoided: a host without sandboxes refuses tools. */
export class ToolSandbox {
  readonly #leaseUid: () => Promise<ToolUid | undefined>;
  readonly #show: ShowFiles;

  /** @param leaseUid leases a uid for one run if hearthd is root; otherwise returns undefined */
  constructor(leaseUid: () => Promise<ToolUid | undefined>, show: ShowFiles = BY_PATH) {
    this.#leaseUid = leaseUid;
    this.#show = show;
  }

  /**
   * Runs the tool and returns its stdout.
   * @throws HearthError `host.tool_missing`, `feature.missing` without a sandbox, `host.tool_failed`, or
   * `path.unmanaged` for a file to write that is a link, not a regular file, or has a second name
   */
  async run(tool: ToolRun, signal: AbortSignal): Promise<string> {
    const found = findProgram(tool.program);
    if (found === undefined) throw missingTool(tool.program);
    const program = realpathSync(found);
    const host = await findSandboxHost(USE, signal);
    const all: SandboxFile[] = [
      ...programFiles(program),
      ...tool.reads.map((path) => ({ path, access: "read" }) as const),
      ...tool.writes.map((path) => ({ path, access: "write" }) as const),
    ];
    using shown = await this.#show(all, signal);
    await using lease = await this.#leaseUid();
    for (const path of tool.reads) checkReadable(path, lease);
    await using written = await WrittenFiles.hand(
      shown.files.filter(({ access }) => access === "write"),
      lease,
    );
    const { files, fds } = passFiles(shown.files, FIRST_FILE_FD);
    const limits = {
      fileMaxBytes: tool.fileMaxBytes,
      memoryMaxBytes: MEMORY_MAX_BYTES,
      cpuMaxSeconds: Math.ceil(tool.timeoutMs / 1000),
    };
    const [file = "", ...args] = toolCommand(
      { program, args: tool.args, files, uid: lease?.uid, limits },
      host,
    );
    const result = await run(file, args, { timeoutMs: tool.timeoutMs, fds, signal });
    if (!result.ok) throw describeToolError(tool, result.error);
    await written.sync();
    return result.stdout;
  }
}

/** Names the tool that failed, because the command in the error is that of its sandbox. */
function describeToolError({ program, args: [verb = ""] }: ToolRun, error: HearthError): HearthError {
  if (error.code !== "host.tool_failed") return error;
  const message = error.message.replace(/^`.*` /s, `\`${program} ${verb}\` `);
  return new HearthError("host.tool_failed", message, { cause: error.cause });
}

function checkReadable(path: string, lease: ToolUid | undefined): void {
  const isForAll = (statSync(path).mode & 0o004) !== 0;
  invariant(
    lease === undefined || isForAll,
    `a tool is shown frozen files, and ${path} is not for all to read`,
  );
}

/**
 * Files that belong to a tool's uid while it runs. hearthd keeps their directories, so that no name can be exchanged.
 */
class WrittenFiles implements AsyncDisposable {
  readonly #files: FileHandle[] = [];
  readonly #lease: ToolUid | undefined;

  private constructor(lease: ToolUid | undefined) {
    this.#lease = lease;
  }

  static async hand(files: readonly SandboxFile[], lease: ToolUid | undefined): Promise<WrittenFiles> {
    const handed = new WrittenFiles(lease);
    try {
      for (const file of files) await handed.#give(file);
      return handed;
    } catch (error) {
      return await failAfter(error, () => handed[Symbol.asyncDispose]());
    }
  }

  async #give({ path, fd }: SandboxFile): Promise<void> {
    const flags = constants.O_RDWR | constants.O_NONBLOCK;
    const file =
      fd === undefined
        ? await open(path, flags | constants.O_NOFOLLOW)
        : await open(`/proc/self/fd/${fd}`, flags);
    this.#files.push(file);
    const stats = await file.stat();
    if (!stats.isFile() || stats.nlink !== 1)
      throw new HearthError(
        "path.unmanaged",
        `${JSON.stringify(path)} cannot be given to a tool: it is shared.`,
      );
    if (this.#lease?.from?.(stats.uid) === false)
      throw new HearthError(
        "path.unmanaged",
        `${JSON.stringify(path)} cannot be given to a tool: it belongs to the uid ${stats.uid}.`,
      );
    if (this.#lease !== undefined) await chown(file, this.#lease.uid);
  }

  async sync(): Promise<void> {
    for (const file of this.#files) await file.sync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { uid = process.geteuid?.() ?? 0, gid = process.getegid?.() ?? 0 } = this.#lease?.owner ?? {};
    for (const file of this.#files) {
      if (this.#lease !== undefined) await file.chown(uid, gid);
      await file.close();
    }
  }
}

async function chown(file: FileHandle, uid: number): Promise<void> {
  try {
    await file.chown(uid, uid);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EINVAL") throw error;
    throw new HearthError("host.uid_unmapped", `The uid ${uid} does not exist in this user namespace.`, {
      hint: "Set [isolation] uid_first in config.toml to a range that /proc/self/uid_map has.",
      cause: error,
    });
  }
}
