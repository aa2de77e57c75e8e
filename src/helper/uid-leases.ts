/**
 * Uids for VMMs. A lease is a file named after the uid, so the file system decides who has it: never two VMs, and
 * never two hearthds. It names the VM and its folder; where that is gone, nobody needs the uid any more.
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
import { listUids } from "#host/procfs.ts";
import type { VmId } from "#model/ids.ts";

export type UidRange = { readonly first: number; readonly count: number };

export type Lease = {
  readonly uid: number;
  readonly vm: string;
  readonly stateDir: string;
};

/** The leases of this host, in one folder that only root writes to. */
export class UidLeases {
  readonly #folder: string;
  readonly #range: UidRange;

  constructor(folder: string, range: UidRange) {
    this.#folder = folder;
    this.#range = range;
  }

  /** The VM's own one, or the first that is free. @throws HearthError `host.uids_used_up` */
  take(vm: VmId, stateDir: string): number {
    mkdirSync(this.#folder, { recursive: true, mode: 0o755 });
    this.#checkFolder();
    const mine = this.find(vm, stateDir);
    if (mine !== undefined) return mine;
    const taken = new Map(this.list().map((lease) => [lease.uid, lease]));
    const inUse = listUids();
    for (let uid = this.#range.first; uid < this.#range.first + this.#range.count; uid++) {
      const lease = taken.get(uid);
      if (inUse.has(uid) || (lease !== undefined && existsSync(lease.stateDir))) continue;
      if (lease !== undefined) this.#drop(uid);
      if (this.#claim({ uid, vm, stateDir })) return uid;
    }
    throw new HearthError("host.uids_used_up", `All ${this.#range.count} uids for VMs are in use.`, {
      hint: "Stop VMs, or widen [isolation] uid_count in config.toml.",
    });
  }

  find(vm: VmId, stateDir: string): number | undefined {
    return this.list().find((lease) => lease.vm === vm && lease.stateDir === stateDir)?.uid;
  }

  /** Idempotent. @throws HearthError `host.uid_busy` while a process has the uid: it would be another VM's next. */
  release(vm: VmId, stateDir: string): void {
    const uid = this.find(vm, stateDir);
    if (uid === undefined) return;
    if (listUids().has(uid))
      throw new HearthError(
        "host.uid_busy",
        `The uid ${uid} of ${vm} is not given back: a process still has it.`,
      );
    this.#drop(uid);
  }

  /** What cannot be read is nobody's lease, and its uid is left alone. */
  list(): Lease[] {
    if (!existsSync(this.#folder)) return [];
    return readdirSync(this.#folder).flatMap((name) => {
      const lease = /^\d{1,10}$/.test(name) ? this.#read(Number(name)) : undefined;
      return lease === undefined ? [] : [lease];
    });
  }

  /** Whole or not at all, and for one only: link(2) refuses a name that is there. */
  #claim(lease: Lease): boolean {
    const draft = join(this.#folder, `.${process.pid}-${randomBytes(4).toString("hex")}`);
    const { uid, vm, stateDir } = lease;
    writeFileSync(draft, `${JSON.stringify({ vm, stateDir, pid: process.pid })}\n`, {
      flag: "wx",
      mode: 0o600,
    });
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
      const { vm, stateDir } = JSON.parse(readFileSync(this.#path(uid), "utf8")) as Record<string, unknown>;
      return typeof vm === "string" && typeof stateDir === "string" ? { uid, vm, stateDir } : undefined;
    } catch (error) {
      if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === "ENOENT")
        return undefined;
      throw error;
    }
  }

  #drop(uid: number): void {
    rmSync(this.#path(uid), { force: true });
  }

  #path(uid: number): string {
    return join(this.#folder, String(uid));
  }

  #checkFolder(): void {
    const { uid, mode } = lstatSync(this.#folder);
    if (uid === process.geteuid?.() && (mode & 0o022) === 0) return;
    throw new HearthError("path.unmanaged", `${this.#folder} is not trusted: others may write to it.`, {
      hint: "Remove it: it is made anew.",
    });
  }
}
