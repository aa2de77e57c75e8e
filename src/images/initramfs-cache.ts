import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import { writeFileAtomic } from "#host/atomic-file.ts";
import { buildInitramfs } from "#images/build-initramfs.ts";
import { SharedWork } from "#base/shared-work.ts";
import type { Expected, VerifiedFiles } from "#host/verified-files.ts";

/** The parts of a verified kernel that an initramfs contains. */
export type KernelParts = {
  readonly digest: string;
  readonly modules: readonly { readonly name: string; readonly path: string }[];
};

type Made = Expected & { readonly path: string };

/**
 * Keeps one initramfs for each agent and kernel. hearthd builds it in memory at its first use: that takes no longer
 * than reading it, and gives the hash by which the file is found and verified.
 */
export class InitramfsCache {
  readonly #dirOf: (kernelDigest: string) => string;
  readonly #files: VerifiedFiles;
  readonly #making = new SharedWork<Made>();
  /** Each initramfs by kernel and by the agent's stat fingerprint: a new agent gets a new initramfs. */
  readonly #made = new Map<string, Made>();

  constructor(dirOf: (kernelDigest: string) => string, files: VerifiedFiles) {
    this.#dirOf = dirOf;
    this.#files = files;
  }

  /**
   * Returns the path. `prepare` returns the kernel's verified parts, and is called only when they are needed.
   * @throws HearthError `host.tool_missing` without an agent, `image.corrupt`
   */
  async ensure(
    kernelDigest: string,
    agentPath: string,
    ref: string,
    prepare: (signal: AbortSignal) => Promise<KernelParts>,
    signal: AbortSignal,
  ): Promise<string> {
    const key = `${kernelDigest} ${await agentFingerprint(agentPath)}`;
    let made = this.#made.get(key);
    // A missing file was removed with its kernel, which has been built again since.
    if (made === undefined || !existsSync(made.path)) {
      const work = async (_: unknown, shared: AbortSignal): Promise<Made> =>
        this.#make(await prepare(shared), agentPath);
      made = await this.#making.join(key, work, () => {}, signal);
      this.#made.set(key, made);
    }
    await this.#files.check(made.path, made, ref, signal);
    return made.path;
  }

  async #make(kernel: KernelParts, agentPath: string): Promise<Made> {
    const pieces = await buildInitramfs({ agentPath, modules: kernel.modules });
    const hash = createHash("sha256");
    for (const piece of pieces) hash.update(piece);
    const sha256 = hash.digest("hex");
    const dir = this.#dirOf(kernel.digest);
    const path = join(dir, `${sha256}.cpio`);
    const sizeBytes = pieces.reduce((sum, piece) => sum + piece.length, 0);
    if (existsSync(path)) return { path, sha256, sizeBytes };
    await mkdir(dir, { recursive: true });
    await writeFileAtomic(path, Buffer.concat(pieces));
    await this.#files.trust(path, sha256);
    return { path, sha256, sizeBytes };
  }
}

async function agentFingerprint(path: string): Promise<string> {
  try {
    const { ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return `${path} ${ino} ${size} ${mtimeNs} ${ctimeNs}`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new HearthError("host.tool_missing", `The guest agent is not built: ${path} is missing.`, {
      hint: "Build it: `make setup`.",
    });
  }
}
