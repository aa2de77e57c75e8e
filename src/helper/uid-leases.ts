/**
 * Leases uids for VMMs. A lease is a file named after the uid, so the file system decides who has it: never two VMs,
 * and never two hearthds. It names the VM and its state directory; if that directory is gone, the lease is stale. A
 * hearthd in another mount namespace may see a directory that is not here, so its leases stay until that namespace has
 * no process.
 * Leases change under a lock that every hearthd of the host takes. Otherwise one that reads a stale lease and removes
 * it could be overtaken by another that has removed it and claimed the uid in between.
 */
import { randomBytes } from "node:crypto";
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import { waitFileLock } from "#host/file-lock.ts";
import type { FileLock } from "#host/file-lock.ts";
import { hasMountNamespace, listUids, readMountNamespace } from "#host/procfs.ts";
import type { VmId } from "#model/ids.ts";

export type UidRange = { readonly first: number; readonly count: number };

export type Lease = {
  readonly uid: number;
  readonly vm: string;
  readonly stateDir: string;
  /** The mount namespace of the hearthd that leased it, as `/proc/PID/ns/mnt` names it. Older hearthds did not write it. */
  readonly mountNamespace?: string | undefined;
};

const LOCK_FILE = ".lock";
/** A change takes a few milliseconds; a hearthd that has the lock for this long has been stopped. */
const LOCK_DEADLINE_MS = 30_000;

/** The leases of this host, in one directory that only root writes to. */
export class UidLeases {
  readonly #dir: string;
  readonly #range: UidRange;

  constructor(dir: string, range: UidRange) {
    this.#dir = dir;
    this.#range = range;
  }

  /**
   * Returns the VM's uid, or leases the first free one.
   * @throws HearthError `host.uids_used_up`
   */
  async take(vm: VmId, stateDir: string): Promise<number> {
    mkdirSync(this.#dir, { recursive: true, mode: 0o755 });
    this.#checkDir();
    using _lock = await this.#lock();
    const leases = this.list();
    const own = leases.find((lease) => lease.vm === vm && lease.stateDir === stateDir);
    if (own?.mountNamespace === readMountNamespace()) return own.uid;
    if (own !== undefined) {
      this.#remove(own.uid);
      if (this.#claim({ uid: own.uid, vm, stateDir })) return own.uid;
    }
    const taken = new Map(leases.map((lease) => [lease.uid, lease]));
    const inUse = listUids();
    for (let uid = this.#range.first; uid < this.#range.first + this.#range.count; uid++) {
      const lease = taken.get(uid);
      if (inUse.has(uid) || (lease !== undefined && !isStale(lease))) continue;
      if (lease !== undefined) this.#remove(uid);
      if (this.#claim({ uid, vm, stateDir })) return uid;
    }
    throw new HearthError("host.uids_used_up", `All ${this.#range.count} uids for VMs are in use.`, {
      hint: "Stop VMs, or widen [isolation] uid_count in config.toml.",
    });
  }

  /** Tells whether a uid is in the range for VMs. */
  has(uid: number): boolean {
    return uid >= this.#range.first && uid < this.#range.first + this.#range.count;
  }

  find(vm: VmId, stateDir: string): number | undefined {
    return this.list().find((lease) => lease.vm === vm && lease.stateDir === stateDir)?.uid;
  }

  /**
   * Releases the VM's uid. Idempotent.
   * @throws HearthError `host.uid_busy` while a process has the uid: the next VM would share it with that process
   */
  async release(vm: VmId, stateDir: string): Promise<void> {
    if (this.find(vm, stateDir) === undefined) return;
    using _lock = await this.#lock();
    const uid = this.find(vm, stateDir);
    if (uid === undefined) return;
    if (listUids().has(uid))
      throw new HearthError(
        "host.uid_busy",
        `Cannot release the uid ${uid} of ${vm}: a process still has it.`,
        { hint: `See which one: ps -U ${uid}` },
      );
    this.#remove(uid);
  }

  /** Skips files that are not leases; their uids stay blocked. */
  list(): Lease[] {
    if (!existsSync(this.#dir)) return [];
    return readdirSync(this.#dir).flatMap((name) => {
      const lease = /^\d{1,10}$/.test(name) ? this.#read(Number(name)) : undefined;
      return lease === undefined ? [] : [lease];
    });
  }

  async #lock(): Promise<FileLock> {
    const late = AbortSignal.timeout(LOCK_DEADLINE_MS);
    try {
      return await waitFileLock(join(this.#dir, LOCK_FILE), () => {}, late);
    } catch (cause) {
      if (!late.aborted) throw cause;
      throw new HearthError(
        "host.lock_held",
        `Cannot change the uid leases in ${this.#dir}: another hearthd has kept them locked for ${LOCK_DEADLINE_MS / 1000} s.`,
        { hint: "Continue or kill the stopped hearthd: ps -C node -o pid,stat,args", cause },
      );
    }
  }

  /** Writes the lease whole or not at all: link(2) refuses a name that exists. */
  #claim(lease: Lease): boolean {
    const draft = join(this.#dir, `.${process.pid}-${randomBytes(4).toString("hex")}`);
    const { uid, vm, stateDir } = lease;
    const content = { vm, stateDir, mountNamespace: readMountNamespace(), pid: process.pid };
    writeFileSync(draft, `${JSON.stringify(content)}\n`, { flag: "wx", mode: 0o600 });
    try {
      linkSync(draft, this.#path(uid));
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
      throw error;
    } finally {
      rmSync(draft, { force: true });
    }
  }

  #read(uid: number): Lease | undefined {
    try {
      const content = JSON.parse(readFileSync(this.#path(uid), "utf8")) as Record<string, unknown>;
      const { vm, stateDir, mountNamespace } = content;
      if (typeof vm !== "string" || typeof stateDir !== "string") return undefined;
      return { uid, vm, stateDir, ...(typeof mountNamespace === "string" && { mountNamespace }) };
    } catch (error) {
      if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === "ENOENT")
        return undefined;
      throw error;
    }
  }

  #remove(uid: number): void {
    rmSync(this.#path(uid), { force: true });
  }

  #path(uid: number): string {
    return join(this.#dir, String(uid));
  }

  #checkDir(): void {
    const { uid, mode } = lstatSync(this.#dir);
    if (uid === process.geteuid?.() && (mode & 0o022) === 0) return;
    throw new HearthError("path.unmanaged", `${this.#dir} is not safe: other users can write to it.`, {
      hint: "Remove these permissions: chmod go-w, and chown root if it belongs to another user.",
    });
  }
}

/** Tells whether the VM of a lease is gone, so that its uid can be leased again. */
export function isStale({ stateDir, mountNamespace }: Lease): boolean {
  if (existsSync(stateDir)) return false;
  const isHere = mountNamespace === undefined || mountNamespace === readMountNamespace();
  return isHere || !hasMountNamespace(mountNamespace);
}
