/** Finds the commands that a page of the docs tells people to type. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Bed } from "./bed.ts";
import { runCli } from "./run-cli.ts";
import type { CliResult } from "./run-cli.ts";

/** Where the commands are to be typed. */
export const ROOT = join(import.meta.dirname, "..");
export const DOC_TIMEOUT_MS = 300_000;

/** The texts of the blocks of code in this language. @param page its path from the root of the checkout */
export function blocksOf(page: string, language: string): string[] {
  const text = readFileSync(join(ROOT, page), "utf8");
  return [...text.matchAll(new RegExp(`\`\`\`${language}\n(.*?)\`\`\``, "gs"))].map(
    ([, block = ""]) => block,
  );
}

/** The commands that a page tells people to type, in order: those of its sessions, and then those without output. */
export function commandsOf(page: string): string[] {
  const lines = blocksOf(page, "sh")
    .flatMap((block) => block.split("\n"))
    .filter((line) => line !== "" && !line.startsWith("#"));
  return [...sessionOf(page).map(({ line }) => line), ...lines];
}

/** Commands with the last line that they print, from blocks that show both. */
export function sessionOf(page: string): { line: string; prints: string }[] {
  return blocksOf(page, "console").flatMap((block) =>
    [...block.matchAll(/^\$ (.*)\n((?:[^$].*\n)*)/gm)].map(([, line = "", output = ""]) => ({
      line,
      prints: output.trimEnd().split("\n").at(-1) ?? "",
    })),
  );
}

/** As it stands there. */
export function typeIn(bed: Bed, line: string): Promise<CliResult> {
  return runCli("/bin/sh", ["-c", line], { cwd: ROOT, env: bed.env, timeoutMs: DOC_TIMEOUT_MS });
}
