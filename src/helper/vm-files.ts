/**
 * The owners of the files of VMs, of volumes and of guest memory files. A file of a VM belongs to the VM's uid; all
 * others belong to hearthd. If hearthd is not root, it has access to a VM's files by its group: files and directories
 * of a VM keep hearthd's gid, and so do files that the VMM makes in these directories, as they are setgid. hearthd
 * connects to the VMM's sockets, moves files in and out, and reads the disk. Other users have no access, because the
 * directories above are only for hearthd.
 */
import { constants, existsSync, fstatSync } from "node:fs";
import { join } from "node:path";
import { emptyOfDirectories } from "#helper/remove-as-user.ts";
import { helperPaths, MEMORY_FILE, VOLUME_FILE } from "#helper/helper-roots.ts";
import type { HelperRoots } from "#helper/helper-roots.ts";
import { chownOpen, claimFile, openOwn } from "#helper/own-files.ts";
import type { Ids, OwnFile, Owner } from "#helper/own-files.ts";
import type { UidLeases } from "#helper/uid-leases.ts";
import type { OpenFile } from "#jail/open-stdio.ts";
import { parseSnapshotId, parseVolumeName } from "#model/ids.ts";
import type { VmId } from "#model/ids.ts";

/** Modes of a VM's files: for its uid only, or also for hearthd's group. */
const ALONE = { file: 0o600, dir: 0o700 };
const WITH_HEARTHD = { file: 0o660, dir: 0o2770 };
/** The mode of a volume that no VM writes to: VMs that only read it have it mounted. */
const VOLUME = 0o644;
const PRIVATE = 0o700;
/** Lets a VMM pass through to the sockets, and neither list nor write. */
const PASS = 0o710;
const READ_ONLY = 0o444;
const ROOT = 0;

const { O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_WRONLY } = constants;

export class VmFiles {
  readonly #roots: HelperRoots;
  readonly #leases: UidLeases;
  readonly #owner: Ids;
  /** True if hearthd has fewer rights than the port. */
  readonly #apart: boolean;

  constructor(roots: HelperRoots, leases: UidLeases, owner: Ids, isRoot: boolean) {
    this.#roots = roots;
    this.#leases = leases;
    this.#owner = owner;
    this.#apart = isRoot && owner.uid !== ROOT;
  }

  /** Gives the VM its disk, its run directory and its save directory. Without a uid they are only checked. */
  give(id: VmId, uid: number | undefined): void {
    const { disks, saveDir, runDir } = helperPaths(this.#roots, id);
    const disk = disks.find((path) => existsSync(path)) ?? disks.at(-1) ?? "";
    const from = this.ofHearthd(uid);
    // Checks all files before it changes one.
    for (const to of uid === undefined ? [undefined] : [undefined, uid]) {
      const mode = this.#modes;
      const { vms, runs } = this.#roots;
      const own = to === undefined ? undefined : this.#ofVm(to);
      claimFile(
        { root: vms, path: disk, kind: "file", from },
        own && { ...own, mode: this.#apart ? mode.file : undefined },
      );
      const dir = own && { ...own, mode: mode.dir };
      if (existsSync(saveDir)) claimFile({ root: vms, path: saveDir, kind: "dir", from }, dir);
      claimFile({ root: runs, path: runDir, kind: "dir", from }, dir);
    }
  }

  /**
   * Gives the disk and the save directory to hearthd after the VMM has ended. A missing file is ignored. If hearthd is
   * not root, directories that the VMM has made are removed, because hearthd could not do that.
   */
  async take(id: VmId, uid: number): Promise<void> {
    const { disks, saveDir, runDir } = helperPaths(this.#roots, id);
    if (this.#apart) {
      const own = { kind: "dir", from: this.ofHearthd(uid) } as const;
      await ifThere(() => emptyOfDirectories({ ...own, root: this.#roots.vms, path: saveDir }, uid));
      const run = { ...own, root: this.#roots.runs, path: runDir };
      await ifThere(() => emptyOfDirectories(run, uid));
      await ifThere(() => claimFile(run, { ...this.#owner, mode: PRIVATE }));
    }
    const root = this.#roots.vms;
    const from = this.ofHearthd(uid);
    const mode = this.#apart ? ALONE.file : undefined;
    for (const path of disks)
      await ifThere(() => claimFile({ root, path, kind: "file", from }, { ...this.#owner, mode }));
    await ifThere(() =>
      claimFile({ root, path: saveDir, kind: "dir", from }, { ...this.#owner, mode: PRIVATE }),
    );
  }

  giveVolume(volume: string, uid: number | undefined): void {
    if (uid === undefined) return this.#claimVolume(volume, this.ofHearthd(uid), undefined);
    const others = this.#othersThan(uid);
    const isFree = (owner: number): boolean => !others.has(owner);
    const owner = { ...this.#ofVm(uid), mode: this.#apart ? WITH_HEARTHD.file : undefined };
    this.#claimVolume(volume, this.ofHearthd(uid) ?? isFree, owner);
  }

  async takeVolume(volume: string, uid: number): Promise<void> {
    const mode = this.#apart ? VOLUME : undefined;
    await ifThere(() => this.#claimVolume(volume, (owner) => owner === uid, { ...this.#owner, mode }));
  }

  /**
   * Takes the run directory from the VMM, which then passes through it to existing sockets, and cannot make further
   * files.
   */
  sealRunDir(id: VmId, uid: number): void {
    const { runDir } = helperPaths(this.#roots, id);
    const own: OwnFile = { root: this.#roots.runs, path: runDir, kind: "dir", from: this.ofHearthd(uid) };
    claimFile(own, { uid: this.#owner.uid, gid: uid, mode: PASS });
  }

  sealMemory(snapshot: string): void {
    const root = this.#roots.snapshots;
    const path = join(root, parseSnapshotId(String(snapshot)), MEMORY_FILE);
    // The VMM that wrote it may still have a uid. Which VM it belongs to is not known here.
    const from = this.#apart
      ? (uid: number): boolean => uid === this.#owner.uid || this.#leases.has(uid)
      : undefined;
    claimFile({ root, path, kind: "file", from }, { ...this.#owner, mode: READ_ONLY });
  }

  /** Gives a file in the VM's directory to the VM. Without a uid it is only checked. */
  giveFile(path: string, uid: number | undefined): void {
    const owner = uid === undefined ? undefined : { ...this.#ofVm(uid), mode: this.#modes.file };
    claimFile({ root: this.#roots.vms, path, kind: "file", from: this.ofHearthd(uid) }, owner);
  }

  /** Checks a file that a tool is to write. */
  check(path: string): void {
    const { vms, volumes, snapshots } = this.#roots;
    claimFile(
      { root: rootOf(path, [vms, volumes, snapshots]), path, kind: "file", from: this.ofHearthd(undefined) },
      undefined,
    );
  }

  /** Opens the files of a VMM with the port's rights, and checks that they are where their paths say. */
  openFor(id: VmId, uid: number | undefined): OpenFile {
    const { vms, snapshots, runs } = this.#roots;
    const { stateDir, runDir } = helperPaths(this.#roots, id);
    const from = this.ofHearthd(uid);
    return {
      stdin: (path) => openOwn({ root: rootOf(path, [snapshots, vms]), path, kind: "file", from }, O_RDONLY),
      stdout: (path) => {
        const below = rootOf(path, [runDir, stateDir]);
        return openOwn({ root: below === runDir ? runs : vms, below, path, kind: "fifo", from }, O_RDWR);
      },
      log: (path) => this.#openLog({ root: vms, path, kind: "file" }),
    };
  }

  /** Opens the log. A new one belongs to hearthd, which reads, limits and removes it. */
  #openLog(own: OwnFile): number {
    const fd = openOwn(own, O_WRONLY | O_APPEND | O_CREAT, ALONE.file);
    if (fstatSync(fd).uid !== this.#owner.uid) chownOpen(fd, this.#owner);
    return fd;
  }

  #claimVolume(volume: string, from: OwnFile["from"], owner: Owner | undefined): void {
    const root = this.#roots.volumes;
    claimFile(
      { root, path: join(root, parseVolumeName(String(volume)), VOLUME_FILE), kind: "file", from },
      owner,
    );
  }

  get #modes(): typeof ALONE {
    return this.#apart ? WITH_HEARTHD : ALONE;
  }

  #ofVm(uid: number): Ids {
    return { uid, gid: this.#apart ? this.#owner.gid : uid };
  }

  /**
   * Returns a test for the owners of files that the port opens or gives away: hearthd, the VM, and the uids of removed
   * VMs. Undefined if hearthd is root, and may do all this itself.
   */
  ofHearthd(uid: number | undefined): OwnFile["from"] {
    if (!this.#apart) return undefined;
    const others = this.#othersThan(uid);
    return (owner) => owner === this.#owner.uid || (this.#leases.has(owner) && !others.has(owner));
  }

  #othersThan(uid: number | undefined): ReadonlySet<number> {
    return new Set(this.#leases.list().flatMap((lease) => (lease.uid === uid ? [] : [lease.uid])));
  }
}

/** Returns the first of these directories that contains the path, or the first of all if none does. */
function rootOf(path: string, roots: readonly [string, ...string[]]): string {
  return roots.find((root) => String(path).startsWith(`${root}/`)) ?? roots[0];
}

/** Ignores a missing file, and one that was never given to the VM: neither may prevent the VM's removal. */
async function ifThere(act: () => void | Promise<void>): Promise<void> {
  try {
    await act();
  } catch (error) {
    const { code } = error as { code?: string };
    if (code !== "ENOENT" && code !== "path.unmanaged") throw error;
  }
}
