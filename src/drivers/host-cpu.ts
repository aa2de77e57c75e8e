import { readFileSync } from "node:fs";
import { sha256 } from "#host/hash-file.ts";

/** The lines that count on x86, and on ARM, where the kernel gives no model name. */
const SEEN =
  /^(model name|stepping|microcode|flags|CPU (implementer|architecture|variant|part|revision)|Features)\s*:/;

/**
 * Describes the host's CPU as a guest with hardware virtualization sees it: the model's name, and a hash of all that a
 * guest can tell apart.
 */
export function describeHostCpu(cpuInfo: string = readFileSync("/proc/cpuinfo", "utf8")): string {
  const first = cpuInfo.split("\n\n", 1)[0] ?? "";
  const seen = first.split("\n").filter((line) => SEEN.test(line));
  const model = /^model name\s*:\s*(.*)$/m.exec(first)?.[1] ?? "unknown CPU";
  return `${model} ${sha256(seen.join("\n")).slice(0, 12)}`;
}
