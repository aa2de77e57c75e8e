/**
 * The parts of the host that the flows use: one object made by `runDaemon`, or by a test with fakes. Modules of the
 * same layer (drivers, images, storage, guest) are combined only here.
 */
import type { Dirs } from "#base/hearth-dirs.ts";
import type { Log } from "#base/log.ts";
import type { MemoryPromises } from "#daemon/vm/memory-promises.ts";
import type { AgentPatience } from "#daemon/vm/answering-guest.ts";
import type { Config } from "#daemon/config.ts";
import type { EventBus } from "#daemon/event-bus.ts";
import type { Journals } from "#daemon/store/journal.ts";
import type { SnapshotRows } from "#daemon/store/snapshot-rows.ts";
import type { Store } from "#daemon/store/store.ts";
import type { Firecrackers } from "#drivers/firecracker/install/firecrackers.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import type { AgentClient } from "#guest/agent-client.ts";
import type { Limitations, PrivilegedPort } from "#helper/privileged-port.ts";
import type { ImageCache } from "#images/image-cache.ts";
import type { VmId } from "#model/ids.ts";
import type { AgentAddress } from "#model/vm-handle.ts";
import type { ProcessRef, ProcessUsage } from "#host/procfs.ts";
import type { VerifiedFiles } from "#host/verified-files.ts";
import type { vmDisks } from "#storage/vm-disks.ts";
import type { Turns } from "#base/turns.ts";
import type { Volumes } from "#storage/volumes.ts";

export type Host = {
  readonly dirs: Dirs;
  readonly config: Config;
  readonly store: Store;
  readonly snapshots: SnapshotRows;
  /** Proves that the files of snapshots are as they were written. */
  readonly snapshotFiles: Pick<VerifiedFiles, "check">;
  readonly journals: Journals;
  readonly bus: EventBus;
  readonly drivers: ReadonlyMap<string, VmDriver>;
  readonly images: Images;
  readonly firecrackers: Pick<Firecrackers, "find" | "list" | "install">;
  readonly disks: Disks;
  readonly volumes: Pick<Volumes, keyof Volumes>;
  readonly files: ManagedFiles;
  readonly guests: Guests;
  /** The only way to privileged actions. */
  readonly helper: PrivilegedPort;
  /** Says what the helper cannot do on this host; asked once. */
  readonly limitations: Limitations;
  readonly processes: Processes;
  /** Limits the guests that boot at the same time: with more, all would miss the deadline for their first answer. */
  readonly boots: Turns;
  /** The memory of VMs that start. */
  readonly memory: MemoryPromises;
  readonly log: Log;
  now(): number;
  /** Reads a monotonic clock. */
  uptimeMs(): number;
  random(bytes: number): Uint8Array;
};

export type Images = Pick<
  ImageCache,
  | "ensure"
  | "rebuild"
  | "list"
  | "find"
  | "get"
  | "remove"
  | "assertThere"
  | "bootSet"
  | "kernelElf"
  | "listKernels"
  | "cleanUp"
>;

/** The disks in VMs' directories. */
export type Disks = ReturnType<typeof vmDisks>;

/** Directories inside the managed roots. */
export type ManagedFiles = {
  /** Makes a directory of mode 0700. Idempotent. */
  makeDir(path: string): Promise<void>;
  /**
   * Removes a directory with its content. Idempotent. @throws HearthError `path.unmanaged` unless `path` really lies
   * inside `root`
   */
  removeTree(root: string, path: string): Promise<void>;
  listDirs(root: string): Promise<string[]>;
  /**
   * Moves a directory into another one, which is made if needed. If the name is taken, adds a number.
   * @returns the new path
   */
  moveAside(path: string, into: string): Promise<string>;
  /**
   * @throws HearthError `host.disk_full` unless so much can be written to `path`, and the disks of VMs have room left
   */
  checkRoom(path: string, bytes: number): Promise<void>;
};

/** The part of an agent's client that hearthd uses. */
export type Guest = Pick<
  AgentClient,
  | "info"
  | "configure"
  | "exec"
  | "signalExec"
  | "resizeExec"
  | "readTar"
  | "writeTar"
  | "dial"
  | "listPorts"
  | "freeze"
  | "thaw"
  | "shutdown"
  | "close"
  | "closed"
>;

export type Guests = {
  /** Resolves when the agent at this socket has answered the handshake. @throws HearthError `agent.unreachable` */
  waitFor(address: AgentAddress, deadlineMs: number, signal: AbortSignal): Promise<Guest>;
  /** The time limits for agents; `AGENT_PATIENCE` when left out. */
  readonly patience?: AgentPatience | undefined;
};

export type Processes = {
  usage(process: ProcessRef): ProcessUsage | undefined;
  /** Finds VMMs whose command line names this directory, such as those that a crash has left. */
  orphans(runDir: string): ProcessRef[];
  /** Kills a process of the VM. Resolves when it has ended. Idempotent. */
  kill(id: VmId, process: ProcessRef, signal: AbortSignal): Promise<void>;
};
