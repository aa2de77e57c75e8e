import { HearthError } from "#base/error.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import type { Config } from "#daemon/config.ts";
import type { VmRecord } from "#model/vm.ts";

/**
 * A restored VM maps its memory file, whose pages are shared and can be read again: it needs memory only for what its
 * guest writes. How much that will be is unknown. A quarter lets forks and pools share, and still refuses a VM that
 * could write next to nothing.
 */
const RESTORED_SHARE = 1 / 4;

/**
 * Promises memory to VMs that start: all of it to one that boots, a quarter to one that is restored. That has to fit
 * into the configured share of the host's available memory, less what was promised to VMs that start at the same time.
 * Running and paused VMs need no promise: what they use is no longer available. Suspended ones have no VMM. An internal
 * VM in the background, such as a template's, is refused where it does not fit, and gets no promise, so that it keeps
 * no user's VM from starting.
 */
export class MemoryPromises {
  readonly #config: Config["memory"];
  readonly #availableBytes: () => number;
  #promisedBytes = 0;

  constructor(config: Config["memory"], availableBytes: () => number) {
    this.#config = config;
    this.#availableBytes = availableBytes;
  }

  /** Promises what a VM needs. To be disposed of once it has started. @throws HearthError `host.memory_short` */
  promise({ name, spec }: Pick<VmRecord, "name" | "spec">, isRestored: boolean): Disposable {
    const { admission, share } = this.#config;
    const neededBytes = Math.ceil(spec.memoryBytes * (isRestored ? RESTORED_SHARE : 1));
    const availableBytes = admission ? this.#availableBytes() : Infinity;
    const leftBytes = (availableBytes * share) / 100 - this.#promisedBytes;
    if (neededBytes > leftBytes) throw this.#short(name, neededBytes, availableBytes);
    if (spec.internal === "background") return { [Symbol.dispose]() {} };
    this.#promisedBytes += neededBytes;
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (!isOver) this.#promisedBytes -= neededBytes;
        isOver = true;
      },
    };
  }

  #short(name: string, neededBytes: number, availableBytes: number): HearthError {
    const { share } = this.#config;
    const of = share === 100 ? "" : `, of which VMs may use ${share} %`;
    const others = this.#promisedBytes;
    const less = others === 0 ? "" : `, and other starting VMs need ${formatSizeRounded(others)} of it`;
    return new HearthError(
      "host.memory_short",
      `Cannot start ${name}: it needs ${formatSizeRounded(neededBytes)} of memory. The host has ` +
        `${formatSizeRounded(availableBytes)} available${of}${less}.`,
      {
        hint:
          `Stop or suspend another VM, or give this VM less memory: \`hearth set ${name} --memory SIZE\`. ` +
          "[memory] in config.toml changes the share, or disables the check.",
      },
    );
  }
}
