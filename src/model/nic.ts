import type { RateLimit } from "#model/rate-limit.ts";

/** A network card of a VM. */
export type NicPlan = {
  /** Letters, digits and hyphens; unique within the VM. */
  readonly id: string;
  /** The MAC address, for example 02:00:00:00:00:01. */
  readonly mac: string;
  readonly attach: NicAttachment;
  /** The limit of each direction; undefined for none. In force before the guest runs. */
  readonly limit?: RateLimit | undefined;
};

/** The other end of a card. `tap`: a TAP device in the network namespace of the VMM. */
export type NicAttachment = { readonly kind: "tap"; readonly name: string };
