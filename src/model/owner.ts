import type { Brand } from "#base/brand.ts";

/** Whose a VM, a snapshot or a volume is. */
export type Owner = Brand<string, "Owner">;

/** The user of the hearthd on this machine: the only owner as long as hearthd serves one user. */
export const LOCAL_OWNER = "local" as Owner;
