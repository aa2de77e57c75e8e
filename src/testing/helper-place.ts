/** A place for the privileged verbs to work in. */
import {
  chownSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { HelperSettings } from "#helper/helper-settings.ts";
import type { PortLaunch } from "#helper/privileged-port.ts";
import type { VerbOptions } from "#helper/privileged-verbs.ts";
import { PrivilegedVerbs } from "#helper/privileged-verbs.ts";
import type { ToolRun } from "#host/tool-sandbox.ts";

export const VM = "vm-aaaaaaaaaaaa";
const UIDS = { first: 1_980_000_000, count: 100 };

/** A program that waits, in place of a VMM. */
export const SLEEP: PortLaunch = {
  program: "sleep",
  args: ["1000"],
  files: [],
  fileMaxBytes: 1024 ** 3,
  isolation: { jail: false, pidNamespace: false, network: { kind: "own" }, cgroup: false },
  priority: "foreground",
};

/** Makes a run of a shell, in place of a tool for disks. */
export function shell(script: string, ...writes: readonly string[]): ToolRun {
  return { program: "sh", args: ["-c", script], reads: [], writes, fileMaxBytes: 1024, timeoutMs: 10_000 };
}

/** Roots with one VM in them, a cgroup tree of plain files, and a directory that is none of the helper's business. */
export class HelperPlace implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), "hearth-helper-"));
  readonly outside = join(this.dir, "outside");
  readonly volume = join(this.dir, "volumes", "data", "volume.raw");
  readonly roots = {
    volumes: join(this.dir, "volumes"),
    snapshots: join(this.dir, "snapshots"),
    vms: join(this.dir, "vms"),
    runs: join(this.dir, "runs"),
    jails: join(this.dir, "jails"),
    leases: join(this.dir, "uids"),
    networks: join(this.dir, "netns"),
    cgroups: join(this.dir, "cgroups"),
  };
  readonly disk = join(this.roots.vms, VM, "disk.raw");
  readonly runDir = join(this.roots.runs, VM);

  constructor() {
    for (const dir of [this.outside, this.runDir, join(this.roots.vms, VM), join(this.roots.jails, VM)])
      mkdirSync(dir, { recursive: true, mode: 0o700 });
    mkdirSync(dirname(this.volume), { recursive: true });
    writeFileSync(this.volume, "", { mode: 0o644 });
    writeFileSync(this.disk, "", { mode: 0o600 });
    writeFileSync(join(this.outside, "precious"), "", { mode: 0o600 });
    for (const group of ["", "hearth", `hearth/${VM}`]) {
      mkdirSync(join(this.roots.cgroups, group), { recursive: true });
      writeFileSync(join(this.roots.cgroups, group, "cgroup.controllers"), "cpu memory pids");
      for (const name of ["cgroup.subtree_control", "cgroup.procs", "cpu.max", "memory.max", "pids.max"])
        writeFileSync(join(this.roots.cgroups, group, name), "");
    }
  }
  helper(isRootUser = true, more: Partial<VerbOptions> = {}): PrivilegedVerbs {
    return new PrivilegedVerbs({
      roots: this.roots,
      uids: UIDS,
      programs: { programs: [SLEEP.program], dirs: [] },
      tools: ["sh"],
      isRoot: isRootUser,
      ...more,
    });
  }
  /** The settings of a helper that is a process of its own. */
  settings(): HelperSettings {
    const owner = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    return {
      roots: this.roots,
      uids: UIDS,
      programs: { programs: [SLEEP.program], dirs: [] },
      networkPrograms: { netns: "/nonexistent", resolver: "/nonexistent" },
      tools: ["sh"],
      owner,
    };
  }
  /** Makes all that is hearthd's another user's: what it is outside of, and what is root's, stays as it is. */
  giveTo({ uid, gid }: { readonly uid: number; readonly gid: number }): void {
    chownSync(this.dir, uid, gid);
    for (const root of [this.roots.vms, this.roots.runs, this.roots.volumes, this.roots.snapshots]) {
      if (!existsSync(root)) continue;
      chownSync(root, uid, gid);
      for (const name of readdirSync(root, { recursive: true, encoding: "utf8" }))
        lchownSync(join(root, name), uid, gid);
    }
  }
  /** All names below with owner, mode, size and time: what a side effect would change. */
  snapshot(): string[] {
    return readdirSync(this.dir, { recursive: true, encoding: "utf8" })
      .map((name) => {
        const { uid, gid, mode, size, mtimeMs } = lstatSync(join(this.dir, name));
        return [name, uid, gid, mode.toString(8), size, mtimeMs].join(" ");
      })
      .toSorted();
  }
  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}
