/**
 * The marks of connections, by which a policy in force knows what it has decided: the number of the policy, and that of
 * the decision. Pure.
 */
import type { NetworkPolicy, PolicyRule } from "#model/network-policy.ts";

/** Policies have numbers from 1 up to this. */
export const POLICY_NUMBER_MAX = 0xf_ffff;
/** The marks of one policy, each of which tells the rule. */
const RULES = 0x1000;
/** The rule of a connection that was cut. */
const CUT = 0xfff;

/** The decisions of every policy, by the number that its mark has beside that of the policy. */
export const DECISIONS = { resolver: 0, special: 1, published: 2, default: 3, private: CUT - 1 } as const;
const FIRST_RULE = 4;
/** The set of all marks of a policy, which counts the packets of each. */
export const COUNTED_SET = "counted";

/** Returns the number of the decision of a rule, by its index. */
export function ruleDecision(index: number): number {
  return FIRST_RULE + index;
}

/** Returns the number of the decision that a mark has. */
export function decisionOf(mark: number): number {
  return mark % RULES;
}

/** The verdicts of one policy, each of which marks the connection and counts. */
export class Verdicts {
  readonly #count: number;
  readonly #first: number;

  constructor({ rules }: NetworkPolicy, number: number) {
    this.#count = FIRST_RULE + rules.length;
    this.#first = number * RULES;
  }

  /** The mark of a connection that was cut. */
  get cut(): string {
    return this.mark(CUT);
  }

  /** The marks of connections that the policy allows. */
  get allowed(): string {
    return `${this.mark(0)}-${this.mark(CUT - 1)}`;
  }

  /** Returns the elements of the set of all marks. */
  elements(): string {
    const all = [...Array.from({ length: this.#count }).keys(), DECISIONS.private];
    return all.map((decision) => `${this.mark(decision)} counter`).join(", ");
  }

  allow(decision: number): string {
    return `ct mark set ${this.mark(decision)} goto allow`;
  }

  decide(action: PolicyRule["action"], decision: number): string {
    return action === "allow" ? this.allow(decision) : `ct mark set ${this.mark(decision)} goto deny`;
  }

  /** Returns the mark of a connection that is decided so. */
  mark(decision: number): string {
    return `0x${(this.#first + decision).toString(16)}`;
  }
}
