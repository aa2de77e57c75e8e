/** Parses the counters of a network policy, as `nft -j list set` prints them (libnftables-json(5)). Pure. */
import * as z from "zod/mini";
import { HearthError } from "#base/error.ts";
import { decisionOf, DECISIONS, ruleDecision } from "#helper/policy-verdicts.ts";

/** Packets of both directions, since the policy is in force. */
export type PacketCount = { readonly packets: number; readonly bytes: number };

export type PolicyCounters = {
  /** Queries to the resolver, and its answers. */
  readonly resolver: PacketCount;
  /** In the order of the policy's rules. */
  readonly rules: PacketCount[];
  /** Packets to special networks that no rule names. */
  readonly special: PacketCount;
  /** Connections to published ports. */
  readonly published: PacketCount;
  /** Connections to and from VMs on the same private networks. */
  readonly private: PacketCount;
  /** All other packets. */
  readonly default: PacketCount;
};

const count = z.int().check(z.nonnegative());
const element = z.object({
  elem: z.object({ val: count, counter: z.object({ packets: count, bytes: count }) }),
});
const listed = z.object({
  nftables: z.array(z.object({ set: z.optional(z.object({ elem: z.array(element) })) })),
});

/** @throws HearthError `host.tool_failed` for what no policy has */
export function parseCounters(text: string): PolicyCounters {
  const { success, data } = listed.safeParse(JSON.parse(text));
  const elements = (success ? data.nftables : []).flatMap(({ set }) => set?.elem ?? []);
  const counters = new Map(elements.map(({ elem }) => [decisionOf(elem.val), elem.counter]));
  const read = (decision: number): PacketCount => {
    const found = counters.get(decision);
    if (found === undefined) throw new HearthError("host.tool_failed", `nft lists no counter ${decision}.`);
    return { packets: found.packets, bytes: found.bytes };
  };
  const ruleCount = Math.max(0, counters.size - Object.keys(DECISIONS).length);
  return {
    resolver: read(DECISIONS.resolver),
    rules: Array.from({ length: ruleCount }, (_, index) => read(ruleDecision(index))),
    special: read(DECISIONS.special),
    published: read(DECISIONS.published),
    private: read(DECISIONS.private),
    default: read(DECISIONS.default),
  };
}
