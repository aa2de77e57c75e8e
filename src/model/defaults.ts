import { GIB } from "#base/sizes.ts";

/** Values of a VM or a request that were not given. The `defaults` in config.toml override some of them. */
export const DEFAULTS = {
  cpus: 2,
  memoryBytes: 2 * GIB,
  diskBytes: 8 * GIB,
  network: "none",
  restart: "no",
  /** The time for a guest to shut down before its VMM is killed. */
  stopTimeoutMs: 10_000,
  /** A template of Debian takes 0.1 to 0.2 GiB. */
  warmBudgetBytes: 10 * GIB,
} as const;
