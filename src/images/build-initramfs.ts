import { readFile } from "node:fs/promises";
import { formatCpio } from "#images/cpio.ts";
import type { CpioEntry } from "#images/cpio.ts";

export type InitramfsInput = {
  readonly agentPath: string;
  /** The modules in load order. */
  readonly modules: readonly { readonly name: string; readonly path: string }[];
};

/**
 * Returns the initramfs in pieces: the agent as `/init`, the modules in `/mod` and their order in `/mods.txt`. Not
 * compressed: an emulated CPU takes longer to unpack it than the host takes to read it.
 */
export async function buildInitramfs(input: InitramfsInput): Promise<Uint8Array[]> {
  const order = input.modules.map(({ name }) => `${name}\n`).join("");
  const entries: CpioEntry[] = [
    ...["dev", "mod", "proc", "sys"].map((path) => ({ kind: "dir", path, mode: 0o755 }) as const),
    // The kernel opens it as the agent's stdin, stdout and stderr, before devtmpfs is mounted.
    { kind: "device", path: "dev/console", mode: 0o600, major: 5, minor: 1 },
    { kind: "device", path: "dev/null", mode: 0o666, major: 1, minor: 3 },
    { kind: "file", path: "init", mode: 0o755, content: await readFile(input.agentPath) },
    { kind: "file", path: "mods.txt", mode: 0o644, content: Buffer.from(order) },
  ];
  for (const { name, path } of input.modules) {
    entries.push({ kind: "file", path: `mod/${name}`, mode: 0o644, content: await readFile(path) });
  }
  return formatCpio(entries);
}
