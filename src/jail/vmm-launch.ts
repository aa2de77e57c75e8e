/** The descriptions of a VMM that is to be started, and of one that was. */
import type { ProcessRef } from "#host/procfs.ts";
import type { SandboxFile } from "#host/sandbox-root.ts";
import type { NetworkNamespace } from "#model/isolation.ts";

/** A driver's description of its VMM, without the isolation. */
export type VmmLaunch = {
  /** A name on PATH, or an absolute path. */
  readonly program: string;
  readonly args: readonly string[];
  /** All that the VMM needs of the host, besides the system's programs and libraries. */
  readonly files: readonly SandboxFile[];
  /** The size of the largest file that the VMM may write. */
  readonly fileMaxBytes: number;
  /** A FIFO for stdout in place of the log: in the VM's run or state directory. */
  readonly stdout?: string | undefined;
  /** A file for stdin, in the directories of VMs or snapshots. Undefined: stdin is empty. */
  readonly stdin?: string | undefined;
  /** Firecracker's own launcher, for a jail: a name on PATH, or an absolute path. */
  readonly jailer?: string | undefined;
  readonly vmId: string;
  /** The working directory of a VMM without a jail; in a jail it is the root. */
  readonly dir?: string | undefined;
  /** The file to which stdout and stderr are appended. */
  readonly logFile: string;
};

/** Open files for a VMM that is started. The function that has opened them closes them. */
export type VmmStdio = {
  readonly stdin: number | undefined;
  readonly stdout: number | undefined;
  /** The file of stderr, and of stdout unless that has its own. */
  readonly log: number;
};

/** A user namespace that owns a network namespace. */
export type UserNamespace = {
  readonly path: string;
  /** The user whose only id is mapped to root there. */
  readonly user: { readonly uid: number; readonly gid: number };
};

/** The network namespace that a VMM is launched into. One that is not root's is joined by its user namespace. */
export type LaunchNetwork =
  | Exclude<NetworkNamespace, { kind: "join" }>
  | { readonly kind: "join"; readonly path: string; readonly owner?: UserNamespace | undefined };

/** The isolation of one VMM, as far as its start decides it. */
export type LaunchIsolation = {
  readonly jail: boolean;
  readonly pidNamespace: boolean;
  readonly network: LaunchNetwork;
  /** The VMM's uid and gid; undefined: those of the process that starts it. Only with `jail`. */
  readonly uid?: number | undefined;
  /** The user whose rights a VMM without `jail` has; undefined: that of the process that starts it. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** The umask for files that the VMM makes; undefined: that of the process that starts it. */
  readonly umask?: number | undefined;
  /** A directory of this VM alone, in which the VMM's launcher makes a root directory. */
  readonly jailDir: string;
};

/**
 * Puts the VMM into its cgroup. Called before the VMM runs, or right after its start where it has neither a jail nor a
 * pid namespace. When it fails, the VMM is ended.
 */
export type PrepareVmm = (vmm: ProcessRef) => Promise<void>;

/**
 * The exit code or the signal of the VMM; both null when its launcher has ended before it, so that the end was not
 * seen.
 */
export type ChildExit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type LaunchedVmm = {
  /** Undefined when it has ended already. */
  readonly process: ProcessRef | undefined;
  /** Waits for the VMM, and ends with it. */
  readonly launcher: ProcessRef | undefined;
  /** Resolves when the VMM has ended. */
  readonly exit: Promise<ChildExit>;
};
