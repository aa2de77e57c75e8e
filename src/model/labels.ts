/** Labels of VMs and snapshots: short texts that users choose, and filter lists by. */
import { HearthError } from "#base/error.ts";
import { isPrintable } from "#base/printable.ts";
import { LIMITS } from "#model/limits.ts";

export type Labels = Readonly<Record<string, string>>;

/** Changes of labels: a text sets a label, null removes it, and all others stay. */
export type LabelChanges = Readonly<Record<string, string | null>>;

/** The name in a key, as in Kubernetes: `com.docker.compose.project`, also after a prefix. */
const KEY_NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
/** The prefix of a key: a DNS name in lower case. */
const KEY_PREFIX = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$/;
const KEY_PREFIX_MAX_CHARS = 253;

/** Checks a label's key: `NAME` or `PREFIX/NAME`. @throws HearthError `input.invalid` */
export function checkLabelKey(key: string): void {
  const slash = key.indexOf("/");
  const prefix = slash < 0 ? undefined : key.slice(0, slash);
  const isPrefixGood =
    prefix === undefined || (prefix.length <= KEY_PREFIX_MAX_CHARS && KEY_PREFIX.test(prefix));
  if (isPrefixGood && KEY_NAME.test(key.slice(slash + 1))) return;
  throw invalid(
    `label: ${quote(key)} is not a label key`,
    "Use 1 to 63 of a-z, A-Z, 0-9, ., _ and -, with a letter or a digit at both ends; a DNS name and / may stand before, " +
      "such as example.com/team.",
  );
}

/** Checks a label's value, which may be empty. @throws HearthError `input.invalid` */
export function checkLabelValue(value: string): void {
  const bytes = Buffer.byteLength(value);
  if (bytes > LIMITS.labelValueMaxBytes)
    throw invalid(
      `label: a value has ${bytes} bytes; the limit is ${LIMITS.labelValueMaxBytes}`,
      "Keep longer texts in a file of the VM, and name the file.",
    );
  if (isPrintable(value)) return;
  throw invalid(
    `label: the value ${quote(value)} contains a character that cannot be printed`,
    "Leave out control characters and line breaks.",
  );
}

/**
 * Checks the number of labels of one VM.
 * @throws HearthError `input.invalid`
 */
export function checkLabelCount(labels: Readonly<Record<string, unknown>>): void {
  const count = Object.keys(labels).length;
  if (count <= LIMITS.labelsMax) return;
  throw invalid(
    `label: there would be ${count} labels; the limit is ${LIMITS.labelsMax}`,
    "Remove some: `hearth set --label KEY- NAME`.",
  );
}

/**
 * Reads `KEY=VALUE`, or `KEY` for an empty value, each key once.
 * @throws HearthError `input.invalid`
 */
export function parseLabels(texts: readonly string[]): Labels {
  const labels = Object.fromEntries(readChanges(texts.map((text) => splitLabel(text))));
  checkLabelCount(labels);
  return labels;
}

/**
 * Reads what `parseLabels` reads, and `KEY-`, which removes a label.
 * @throws HearthError `input.invalid`
 */
export function parseLabelChanges(texts: readonly string[]): LabelChanges {
  const pairs = texts.map((text): [string, string | null] =>
    text.endsWith("-") && !text.includes("=") ? [text.slice(0, -1), null] : splitLabel(text),
  );
  return Object.fromEntries(readChanges(pairs));
}

/**
 * Applies changes.
 * @throws HearthError `input.invalid` if there are then too many labels
 */
export function changeLabels(labels: Labels, changes: LabelChanges): Labels {
  const all = Object.entries({ ...labels, ...changes });
  const changed = Object.fromEntries(all.filter((pair): pair is [string, string] => pair[1] !== null));
  checkLabelCount(changed);
  return changed;
}

/** Writes labels as `parseLabels` reads them, sorted by key. */
export function formatLabels(labels: Labels): string[] {
  return Object.entries(labels)
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([key, value]) => (value === "" ? key : `${key}=${value}`));
}

/** Splits `KEY=VALUE`; a text without `=` is a key with an empty value, as in Docker. */
export function splitLabel(text: string): [key: string, value: string] {
  const end = text.indexOf("=");
  return end < 0 ? [text, ""] : [text.slice(0, end), text.slice(end + 1)];
}

function readChanges<Value extends string | null>(pairs: readonly [string, Value][]): [string, Value][] {
  const keys = new Set<string>();
  for (const [key, value] of pairs) {
    checkLabelKey(key);
    if (value !== null) checkLabelValue(value);
    if (keys.has(key)) throw invalid(`label: ${key} is given twice`, "Give each key once.");
    keys.add(key);
  }
  return [...pairs];
}

/**
 * Quotes text from outside so that it is short enough to print. JSON escapes most unprintable characters, and the CLI
 * the rest.
 */
function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

function invalid(message: string, hint: string): HearthError {
  return new HearthError("input.invalid", `${message}.`, { hint });
}
