/** Chooses VMs of a list, with the words of Docker's `--filter`. */
import { HearthError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import { checkLabelKey, splitLabel } from "#model/labels.ts";
import type { Labels } from "#model/labels.ts";
import { VM_PHASES } from "#model/vm-state.ts";

/** What of a VM a filter looks at. */
export type Filtered = { readonly name: string; readonly phase: string; readonly labels: Labels };

type Test = (vm: Filtered) => boolean;

const KEYS = ["label", "state", "name"] as const;
/** The keys are those of Docker. */
const ALIASES: Readonly<Record<string, (typeof KEYS)[number]>> = { status: "state" };

/**
 * Reads `label=KEY`, `label=KEY=VALUE`, `state=PHASE` and `name=PART`. All labels have to be there; of several states or
 * names one is enough.
 * @throws HearthError `input.invalid`
 */
export function parseVmFilters(texts: readonly string[]): Test {
  const tests: Record<(typeof KEYS)[number], Test[]> = { label: [], state: [], name: [] };
  for (const text of texts) {
    const [given, value] = splitLabel(text);
    const key = KEYS.find((known) => known === (ALIASES[given] ?? given));
    if (key === undefined || value === "") throw notAFilter(text);
    tests[key].push(TESTS[key](value));
  }
  const oneOf = (some: readonly Test[], vm: Filtered): boolean =>
    some.length === 0 || some.some((test) => test(vm));
  return (vm) => tests.label.every((test) => test(vm)) && oneOf(tests.state, vm) && oneOf(tests.name, vm);
}

const TESTS = {
  label(text: string): Test {
    const [key, value] = splitLabel(text);
    checkLabelKey(key);
    const isAny = !text.includes("=");
    return ({ labels }) => Object.hasOwn(labels, key) && (isAny || labels[key] === value);
  },
  state(text: string): Test {
    if (!VM_PHASES.some((phase) => phase === text)) throw notAState(text);
    return ({ phase }) => phase === text;
  },
  name:
    (text: string): Test =>
    (vm) =>
      vm.name.includes(text),
} as const;

function notAFilter(text: string): HearthError {
  const shown = JSON.stringify(text.slice(0, 80));
  return new HearthError("input.invalid", `filter: ${shown} is not a filter.`, {
    hint: "Write label=KEY, label=KEY=VALUE, state=running or name=PART.",
  });
}

function notAState(text: string): HearthError {
  const near = nearest(text, VM_PHASES);
  const shown = JSON.stringify(text.slice(0, 80));
  return new HearthError("input.invalid", `filter: ${shown} is not a state of a VM.`, {
    hint: `${near === undefined ? "" : `Did you mean ${near}? `}States are ${VM_PHASES.join(", ")}.`,
  });
}
