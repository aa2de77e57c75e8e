/**
 * The command line that runs a tool on files that a VMM could have written, decided in one pure function:
 *
 *   bwrap (namespaces, an empty root with these files alone, no network) ─▶ setpriv (own uid, no capability)
 *     ─▶ prlimit (file size, memory, CPU time) ─▶ the tool
 *
 * The tool finds its files at the host's paths. It ends with hearthd, so that no file changes behind the next one's back.
 */
import type { SandboxHost } from "#host/sandbox-host.ts";
import { rootArguments, SETPRIV_NEEDS, setprivArguments } from "#host/sandbox-root.ts";
import type { SandboxFile } from "#host/sandbox-root.ts";

export type ToolPlan = {
  /** Absolute, and no link. */
  readonly program: string;
  readonly args: readonly string[];
  /** All that the tool sees of the host besides the system's libraries; absolute, with no link on the way. */
  readonly files: readonly SandboxFile[];
  /** Uid and gid of the tool; undefined where hearthd is not root, which gives the tool a user namespace. */
  readonly uid?: number | undefined;
  readonly limits: ToolLimits;
};

export type ToolLimits = {
  /** Of the largest file that the tool may write. */
  readonly fileMaxBytes: number;
  /** Of its address space. */
  readonly memoryMaxBytes: number;
  readonly cpuMaxSeconds: number;
};

const OPEN_FILES_MAX = 256;

/** The program first. */
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
