import type { RateLimit } from "#model/rate-limit.ts";

/** A network card of a VM. */
export type NicPlan = {
  /** Letters, digits and hyphens; no two cards of a VM have the same. */
  readonly id: string;
  /** Such as 02:00:00:00:00:01. */
  readonly mac: string;
  readonly attach: NicAttachment;
  /** For each direction by itself; undefined is without a limit. In force before the guest runs. */
  readonly limit?: RateLimit | undefined;
};

/** What a card is attached to. `user`: the VMM is the network itself, and reaches what its namespace reaches. */
export type NicAttachment = { readonly kind: "user" };
