import { LOCAL_OWNER } from "#model/owner.ts";
import type { Owner } from "#model/owner.ts";

/** The author of a request. Holders of tokens will be further kinds. */
export type Principal =
  /** An owner of VMs. */
  | { readonly kind: "owner"; readonly owner: Owner }
  /** hearthd itself, for instance at the end of a VM's lifetime. */
  | { readonly kind: "hearthd" };

/** The user who runs hearthd: no other user may open its socket. */
export const LOCAL_USER: Principal = { kind: "owner", owner: LOCAL_OWNER };
export const HEARTHD: Principal = { kind: "hearthd" };
