/** The verbs of qemu-img that Hearth uses. Formats and layers are named by the caller, and never taken from a header. */
import { basename } from "node:path";
import { MIB } from "#base/sizes.ts";
import { blockNode } from "#host/block-node.ts";
import type { BlockLayer } from "#host/block-node.ts";
import type { ToolSandbox } from "#host/tool-sandbox.ts";

const TOOL_TIMEOUT_MS = 60_000;
/** Of programs that copy: as long as a disk may take. */
const COPY_TIMEOUT_MS = 3_600_000;
/** What a qcow2 has besides data: tables for the largest disk have less. */
const EMPTY_MAX_BYTES = 16 * MIB;

/** A disk that was proven: its layers, the lowest first, and its size as the guest sees it. */
export type DiskChain = { readonly layers: readonly BlockLayer[]; readonly sizeBytes: number };

export class QemuImg {
  readonly #sandbox: Pick<ToolSandbox, "run">;

  constructor(sandbox: Pick<ToolSandbox, "run">) {
    this.#sandbox = sandbox;
  }

  /** Makes an empty file into an empty layer. It opens nothing else: what is below was proven, and has this size. */
  async createLayer(path: string, below: BlockLayer, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const over = ["-u", "-b", basename(below.path), "-F", below.format];
    const args = ["create", "-q", "-f", "qcow2", ...over, path, String(sizeBytes)];
    await this.#run(args, [], [path], EMPTY_MAX_BYTES, TOOL_TIMEOUT_MS, signal);
  }

  /** Copies what the disk has as a guest sees it into an empty raw file of its size. Zeros stay holes. Synced. */
  async flatten(disk: DiskChain, to: string, signal: AbortSignal): Promise<void> {
    const from = `json:${JSON.stringify(blockNode(disk.layers))}`;
    const args = ["convert", "-q", "-n", "--target-is-zero", "-O", "raw", from, to];
    const reads = disk.layers.map(({ path }) => path);
    await this.#run(args, reads, [to], disk.sizeBytes, COPY_TIMEOUT_MS, signal);
  }

  /** Makes a qcow2 larger, whatever lies below it. It refuses to shrink. Synced. */
  async growLayer(path: string, sizeBytes: number, maxBytes: number, signal: AbortSignal): Promise<void> {
    const node = `json:${JSON.stringify(blockNode([{ path, format: "qcow2" }], {}))}`;
    await this.#run(["resize", "-q", node, String(sizeBytes)], [], [path], maxBytes, TOOL_TIMEOUT_MS, signal);
  }

  /** Says in JSON where a file has data, whatever the content says of itself; VMMs may have it open. */
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
