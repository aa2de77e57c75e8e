import { LOCAL_OWNER } from "#model/owner.ts";
import type { Owner } from "#model/owner.ts";

/** Who asks for something. Holders of tokens become further kinds. */
export type Principal =
  /** Somebody who owns VMs. */
  | { readonly kind: "owner"; readonly owner: Owner }
  /** hearthd itself, such as at the end of a VM's lifetime. */
  | { readonly kind: "hearthd" };

/** The user whose hearthd this is: only that user may open its socket. */
export const LOCAL_USER: Principal = { kind: "owner", owner: LOCAL_OWNER };
export const HEARTHD: Principal = { kind: "hearthd" };
