/** What is said of a VMM that is to be started, and what is known of one that was. */
import type { ProcessRef } from "#host/procfs.ts";
import type { SandboxFile } from "#host/sandbox-root.ts";
import type { NetworkNamespace } from "#model/isolation.ts";

/** What a driver says of its VMM; the isolation comes from elsewhere. */
export type VmmLaunch = {
  /** A name on PATH, or an absolute path. */
  readonly program: string;
  readonly args: readonly string[];
  /** All that the VMM needs of the host, besides the system's programs and libraries. */
  readonly files: readonly SandboxFile[];
  /** Of the largest file that the VMM may write. */
  readonly fileMaxBytes: number;
  /** A FIFO for stdout in place of the log: in the VM's run or state directory. */
  readonly stdout?: string | undefined;
  /** A file for stdin, which is empty otherwise: in the directories of VMs or snapshots. */
  readonly stdin?: string | undefined;
  /** A name on PATH, or an absolute path: Firecracker's own launcher, for a jail. */
  readonly jailer?: string | undefined;
  readonly vmId: string;
  /** The working directory of a VMM that has no jail; in one it is the root. */
  readonly dir?: string | undefined;
  /** stdout and stderr are appended here. */
  readonly logFile: string;
};

/** Open files for a VMM that is started. Whoever has opened them closes them afterwards. */
export type VmmStdio = {
  readonly stdin: number | undefined;
  readonly stdout: number | undefined;
  /** For stderr, and for stdout where that has no file of its own. */
  readonly log: number;
};

/** What isolates one VMM, as far as its start decides. */
export type LaunchIsolation = {
  readonly jail: boolean;
  readonly pidNamespace: boolean;
  readonly network: NetworkNamespace;
  /** The VMM's uid and gid; undefined: those of the process that starts it. Only with `jail`. */
  readonly uid?: number | undefined;
  /** Whose rights a VMM without `jail` has; undefined: those of the process that starts it. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** For what the VMM makes; undefined: that of the process that starts it. */
  readonly umask?: number | undefined;
  /** Of this VM alone, for a VMM whose launcher makes a root directory for it. */
  readonly jailDir: string;
};

/**
 * Puts the VMM into its cgroup. Is called before the VMM runs, or right after its start where it has neither a jail nor a
 * pid namespace. When it fails, the VMM is ended.
 */
export type PrepareVmm = (vmm: ProcessRef) => Promise<void>;

/** How the VMM ended; both null when only what launched it has ended, so that nobody saw it. */
export type ChildExit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type LaunchedVmm = {
  /** Undefined when it has ended already. */
  readonly process: ProcessRef | undefined;
  /** Waits for the VMM, and ends with it. */
  readonly launcher: ProcessRef | undefined;
  /** Resolves when the VMM has ended. */
  readonly exit: Promise<ChildExit>;
};
