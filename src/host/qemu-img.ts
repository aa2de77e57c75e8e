/**
 * Runs the commands of qemu-img that Hearth uses. The caller names formats and layers; they are never read from a
 * header.
 */
import { basename } from "node:path";
import { MIB } from "#base/sizes.ts";
import { blockNode } from "#host/block-node.ts";
import type { BlockLayer } from "#host/block-node.ts";
import type { ToolSandbox } from "#host/tool-sandbox.ts";

const TOOL_TIMEOUT_MS = 60_000;
/** The time for commands that copy: as long as a large disk may take. */
const COPY_TIMEOUT_MS = 3_600_000;
/** The maximum size of a qcow2 without data: the tables of the largest disk take less. */
const EMPTY_MAX_BYTES = 16 * MIB;

/** A verified disk: its layers, the lowest first, and its size as the guest sees it. */
export type DiskChain = { readonly layers: readonly BlockLayer[]; readonly sizeBytes: number };

export class QemuImg {
  readonly #sandbox: Pick<ToolSandbox, "run">;

  constructor(sandbox: Pick<ToolSandbox, "run">) {
    this.#sandbox = sandbox;
  }

  /**
   * Makes an empty file into an empty layer. qemu-img opens no other file: the layer below was verified, and has this
   * size.
   */
  async createLayer(path: string, below: BlockLayer, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const over = ["-u", "-b", basename(below.path), "-F", below.format];
    const args = ["create", "-q", "-f", "qcow2", ...over, path, String(sizeBytes)];
    await this.#run(args, [], [path], EMPTY_MAX_BYTES, TOOL_TIMEOUT_MS, signal);
  }

  /**
   * Copies the disk, as a guest sees it, into an empty raw file of the same size. Zeros stay holes. The file is synced.
   */
  async flatten(disk: DiskChain, to: string, signal: AbortSignal): Promise<void> {
    const from = `json:${JSON.stringify(blockNode(disk.layers))}`;
    const args = ["convert", "-q", "-n", "--target-is-zero", "-O", "raw", from, to];
    const reads = disk.layers.map(({ path }) => path);
    await this.#run(args, reads, [to], disk.sizeBytes, COPY_TIMEOUT_MS, signal);
  }

  /** Grows a qcow2, without opening the layers below it. Refuses to shrink. The file is synced. */
  async growLayer(path: string, sizeBytes: number, maxBytes: number, signal: AbortSignal): Promise<void> {
    const node = `json:${JSON.stringify(blockNode([{ path, format: "qcow2" }], {}))}`;
    await this.#run(["resize", "-q", node, String(sizeBytes)], [], [path], maxBytes, TOOL_TIMEOUT_MS, signal);
  }

  /** Returns, in JSON, where a raw file has data, whatever the content claims to be. VMMs may have it open. */
  mapRaw(path: string, signal: AbortSignal): Promise<string> {
    const args = ["map", "--force-share", "--output=json", "-f", "raw", path];
    return this.#run(args, [path], [], 0, TOOL_TIMEOUT_MS, signal);
  }

  #run(
    args: readonly string[],
    reads: readonly string[],
    writes: readonly string[],
    fileMaxBytes: number,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<string> {
    return this.#sandbox.run({ program: "qemu-img", args, reads, writes, fileMaxBytes, timeoutMs }, signal);
  }
}
