import { GIB } from "#base/sizes.ts";

/** What a VM gets when nobody says otherwise. BG-002, BG-003. */
export const DEFAULTS = {
  cpus: 2,
  memoryBytes: 2 * GIB,
  diskBytes: 8 * GIB,
  /** A template of Debian takes 0.1 to 0.2 GiB. */
  warmBudgetBytes: 10 * GIB,
} as const;
