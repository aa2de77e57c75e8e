/** Filters lists with the syntax of Docker's `--filter`. */
import { HearthError } from "#base/error.ts";
import { checkLabelKey, splitLabel } from "#model/labels.ts";
import type { Labels } from "#model/labels.ts";

export type Test<Row> = (row: Row) => boolean;

/** The filters of one list by key. Each parses the text behind the `=`, and throws if it is invalid. */
export type FilterKeys<Row> = Readonly<Record<string, (value: string) => Test<Row>>>;

/**
 * Parses filters such as `label=KEY` and `name=PART`. A row must have all labels. Several filters with the same other
 * key are alternatives, and each key must match.
 * @param hint the syntax of this list's filters
 * @throws HearthError `input.invalid`
 */
export function parseFilters<Row extends { readonly labels: Labels }>(
  texts: readonly string[],
  keys: FilterKeys<Row>,
  hint: string,
): Test<Row> {
  const labels: Test<Row>[] = [];
  const others = new Map<string, Test<Row>[]>();
  for (const text of texts) {
    const [key, value] = splitLabel(text);
    const parse = Object.hasOwn(keys, key) ? keys[key] : undefined;
    if (value !== "" && key === "label") labels.push(hasLabel(value));
    else if (value !== "" && parse !== undefined) others.set(key, [...(others.get(key) ?? []), parse(value)]);
    else throw notAFilter(text, hint);
  }
  return (row) =>
    labels.every((test) => test(row)) &&
    [...others.values()].every((tests) => tests.some((test) => test(row)));
}

function hasLabel(text: string): Test<{ readonly labels: Labels }> {
  const [key, value] = splitLabel(text);
  checkLabelKey(key);
  const isAny = !text.includes("=");
  return ({ labels }) => Object.hasOwn(labels, key) && (isAny || labels[key] === value);
}

function notAFilter(text: string, hint: string): HearthError {
  const shown = JSON.stringify(text.slice(0, 80));
  return new HearthError("input.invalid", `filter: ${shown} is not a filter.`, { hint });
}
