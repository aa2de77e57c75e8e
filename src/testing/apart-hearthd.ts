/**
 * Starts hearthd as a user without rights, beside a helper that has those of this process: with the two ends of one
 * socket pair, as a service of the host would.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import type { Socket } from "node:net";
import { dirname, join } from "node:path";
import { apiSocketPath } from "#base/hearth-dirs.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import { readConfig } from "#daemon/config.ts";
import { helperSettings } from "#daemon/lifecycle/daemon-port.ts";
import { Transport } from "#sdk/transport.ts";

/** A user that no host has, so that nothing is theirs. */
export const APART = { uid: 64_123, gid: 64_123 } as const;

const BIN = join(import.meta.dirname, "../../bin");
const AGENTS = join(BIN, "../build/agent");
const KVM = "/dev/kvm";
const AGAIN_MS = 20;

export type ApartOptions = {
  readonly env: Readonly<Record<string, string>>;
  readonly dirs: Dirs;
  /** Holds what both write to stdout and stderr. hearthd's user may write to `directories`. */
  readonly logDir: string;
  /** The user of hearthd; this process's unless told. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
};

export type ApartHearthd = {
  readonly hearthd: ChildProcess;
  readonly helper: ChildProcess;
  /** Resolves with the exit code of hearthd when both have ended. */
  readonly ended: Promise<number | null>;
  /** The output of both. */
  output(): string;
};

/**
 * Resolves when hearthd answers.
 * @throws Error with what both have written, when hearthd ends before that
 */
export async function startApart(options: ApartOptions): Promise<ApartHearthd> {
  const { env, dirs, logDir, user } = options;
  mkdirSync(logDir, { recursive: true });
  const logFile = join(logDir, "apart.log");
  const log = openSync(logFile, "a");
  const settings = helperSettings({ dirs, agentDir: AGENTS }, readConfig(dirs.config), user ?? own());
  const helper = spawn(process.execPath, [join(BIN, "hearth-helper.ts")], {
    detached: true,
    // Nothing of hearthd's: with NODE_COMPILE_CACHE, root would run what hearthd has written.
    env: { PATH: env["PATH"] ?? "" },
    cwd: "/",
    stdio: ["pipe", log, log, "pipe"],
  });
  const socket = helper.stdio[3] as unknown as Socket;
  const [file = "", ...args] = [
    ...(user === undefined ? [] : becomeUser(user)),
    process.execPath,
    join(BIN, "hearthd.ts"),
    "--helper-fd=3",
  ];
  const hearthd = spawn(file, args, {
    detached: true,
    env: { ...env },
    cwd: "/",
    stdio: ["ignore", log, log, socket],
  });
  socket.destroy(); // It is hearthd's alone now, so that the helper sees its end.
  helper.stdin?.end(JSON.stringify(settings));
  closeSync(log);
  for (const child of [hearthd, helper]) child.unref();
  const ended = Promise.all([once(hearthd, "exit"), once(helper, "exit")]).then(
    ([[code]]) => code as number | null,
  );
  const output = (): string => readFileSync(logFile, "utf8");
  const api = new Transport(apiSocketPath(dirs));
  while (!(await api.answers())) {
    if (hearthd.exitCode !== null || hearthd.signalCode !== null) {
      await ended; // The helper sees that its peer has gone.
      throw new Error(`hearthd ended with ${hearthd.exitCode}:\n${output()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
  return { hearthd, helper, ended, output };
}

/** The command that executes what follows as this user, who may use KVM where this host has it. */
export function becomeUser({ uid, gid }: { readonly uid: number; readonly gid: number }): string[] {
  const kvm = statSync(KVM, { throwIfNoEntry: false })?.gid ?? 0;
  const groups = kvm === 0 ? ["--clear-groups"] : ["--groups", String(kvm)];
  return ["setpriv", "--reuid", String(uid), "--regid", String(gid), ...groups, "--"];
}

function own(): { readonly uid: number; readonly gid: number } {
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
}

/** Tells a directory above `path` that not everybody may pass through. */
export function closedAbove(path: string): string | undefined {
  for (let above = dirname(path); above !== "/"; above = dirname(above))
    if ((statSync(above).mode & 0o001) === 0) return above;
  return undefined;
}
