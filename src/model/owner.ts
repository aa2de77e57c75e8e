import type { Brand } from "#base/brand.ts";

/** The owner of a VM, a snapshot or a volume. */
export type Owner = Brand<string, "Owner">;

/** The user of this machine's hearthd: the only owner as long as hearthd serves one user. */
export const LOCAL_OWNER = "local" as Owner;
