/** Comments of the rules of a network policy. They are for people: no rule in force has one. */
import { HearthError } from "#base/error.ts";
import { isPrintable } from "#base/printable.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";

/** A line of a terminal. All rules of a policy with such comments still fit into one request. */
export const COMMENT_MAX_CHARS = 240;

/** Checks a comment, which is one line that can be printed. @throws HearthError `input.invalid` */
export function checkComment(comment: string): void {
  if (comment.length >= 1 && comment.length <= COMMENT_MAX_CHARS && isPrintable(comment)) return;
  throw new HearthError("input.invalid", `comment: ${JSON.stringify(comment)} is not a comment.`, {
    hint: `Write one line of 1 to ${COMMENT_MAX_CHARS} characters that can be printed.`,
  });
}

/** Returns the policy as it is put in force. */
export function withoutComments({ default: action, rules }: NetworkPolicy): NetworkPolicy {
  return { default: action, rules: rules.map(({ comment: _comment, ...rule }) => rule) };
}
