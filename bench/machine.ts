import { execFileSync } from "node:child_process";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import { qemuProgram } from "./qemu-program.ts";

/** The machine that the numbers were measured on. */
export type Machine = {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryMib: number;
  readonly kernel: string;
  readonly qemu: string;
  readonly node: string;
  /** Hearth's commit; `+` when files differ from it. */
  readonly commit: string;
};

/** Reads it from the system; what cannot be found out is "unknown". */
export function describeMachine(): Machine {
  const root = join(import.meta.dirname, "..");
  const commit = firstLine("git", ["-C", root, "rev-parse", "HEAD"]);
  const changes = firstLine("git", ["-C", root, "status", "--porcelain", "--untracked-files=no"]);
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: cpus().length,
    memoryMib: Math.round(totalmem() / 1024 ** 2),
    kernel: release(),
    qemu: /version ([\w.]+)/.exec(firstLine(qemuProgram(), ["--version"]))?.[1] ?? "unknown",
    node: process.version,
    commit: changes === "" ? commit : `${commit}+`,
  };
}

/** The load over the last minute: what others did meanwhile. */
export function loadNow(): number {
  return Math.round((loadavg()[0] ?? 0) * 100) / 100;
}

function firstLine(file: string, args: readonly string[]): string {
  try {
    return (
      execFileSync(file, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).split("\n")[0] ?? ""
    );
  } catch {
    return "unknown"; // Not installed, or no clone: the numbers count all the same.
  }
}
