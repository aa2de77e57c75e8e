/** Parses the counters of a network policy, as `nft -j list counters` prints them (libnftables-json(5)). Pure. */
import * as z from "zod/mini";
import { HearthError } from "#base/error.ts";
import { COUNTER, ruleCounter } from "#helper/policy-program.ts";

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
  /** All other packets. */
  readonly default: PacketCount;
};

const count = z.int().check(z.nonnegative());
const counter = z.object({ name: z.string(), packets: count, bytes: count });
const listed = z.object({ nftables: z.array(z.object({ counter: z.optional(counter) })) });

/** @throws HearthError `host.tool_failed` for what no policy has */
export function parseCounters(text: string): PolicyCounters {
  const { success, data } = listed.safeParse(JSON.parse(text));
  const counters = new Map(
    (success ? data.nftables : []).flatMap((entry) =>
      entry.counter === undefined ? [] : [[entry.counter.name, entry.counter]],
    ),
  );
  const read = (name: string): PacketCount => {
    const found = counters.get(name);
    if (found === undefined) throw new HearthError("host.tool_failed", `nft lists no counter ${name}.`);
    return { packets: found.packets, bytes: found.bytes };
  };
  const ruleCount = counters.size - Object.keys(COUNTER).length;
  return {
    resolver: read(COUNTER.resolver),
    rules: Array.from({ length: Math.max(0, ruleCount) }, (_, index) => read(ruleCounter(index))),
    special: read(COUNTER.special),
    published: read(COUNTER.published),
    default: read(COUNTER.default),
  };
}
