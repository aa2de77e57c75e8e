/**
 * Builds the command line that runs a tool on files that a VMM could have written. Pure.
 *
 *   bwrap (namespaces, a root with only these files, no network) ─▶ setpriv (separate uid, no capability)
 *     ─▶ prlimit (file size, memory, CPU time) ─▶ the tool
 *
 * The tool finds its files at the host's paths. It dies with hearthd, so that it changes no file after a restart.
 */
import type { SandboxHost } from "#host/sandbox-host.ts";
import { rootArguments, SETPRIV_NEEDS, setprivArguments } from "#host/sandbox-root.ts";
import type { SandboxFile } from "#host/sandbox-root.ts";

export type ToolPlan = {
  /** Absolute, and not a link. */
  readonly program: string;
  readonly args: readonly string[];
  /**
   * The only files of the host that the tool sees besides the system's libraries; absolute, with no link on the way.
   */
  readonly files: readonly SandboxFile[];
  /** The uid and gid of the tool; undefined if hearthd is not root, and the tool gets a user namespace. */
  readonly uid?: number | undefined;
  readonly limits: ToolLimits;
};

export type ToolLimits = {
  /** The maximum size of a file that the tool writes. */
  readonly fileMaxBytes: number;
  /** The maximum size of its address space. */
  readonly memoryMaxBytes: number;
  readonly cpuMaxSeconds: number;
};

const OPEN_FILES_MAX = 256;

/** Returns the program and its arguments. */
export function toolCommand(plan: ToolPlan, host: SandboxHost): string[] {
  const { fileMaxBytes, memoryMaxBytes, cpuMaxSeconds } = plan.limits;
  return [
    host.bwrap,
    ["--unshare-ipc", "--unshare-uts", "--unshare-cgroup", "--unshare-pid", "--unshare-net"],
    ["--die-with-parent", "--clearenv", "--new-session", "--cap-drop", "ALL"],
    plan.uid === undefined ? [] : SETPRIV_NEEDS.flatMap((name) => ["--cap-add", name]),
    rootArguments(plan.files, { hostNetwork: false }, host),
    ["--chdir", "/", "--"],
    plan.uid === undefined ? [] : setprivArguments(host, { uid: plan.uid, gid: plan.uid }, []),
    [host.prlimit, `--fsize=${fileMaxBytes}`, `--as=${memoryMaxBytes}`, `--cpu=${cpuMaxSeconds}`],
    [`--nofile=${OPEN_FILES_MAX}`, "--core=0", "--"],
    [plan.program, ...plan.args],
  ].flat();
}
