import { HearthError } from "#base/error.ts";
import type { Out } from "#cli/output.ts";

/** The limit of concurrent requests: stopping fifty VMs at once would flush fifty disks at once. */
const AT_ONCE = 8;

/** The result of one target: the API's object, or a note that nothing had to be done. */
export type Done = {
  readonly result: unknown;
  readonly note?: string | undefined;
  /** Printed in place of the target's name. */
  readonly line?: string | undefined;
};

/**
 * Calls `act` for several targets concurrently: each once, in the order in which they were first named. Failures are
 * reported, do not stop the others, and set the exit code.
 * @param parse throws for an invalid target, before anything is done
 */
export async function eachTarget(
  words: readonly string[],
  parse: (word: string) => string,
  out: Out,
  act: (name: string) => Promise<Done>,
): Promise<number> {
  const names = [...new Set(words.map(parse))];
  const many = names.length > 1;
  const outcomes = await settled(names, act);
  out.clearProgress();
  if (!many && outcomes[0]?.error !== undefined) throw outcomes[0].error;
  if (out.wantsJson) {
    const results = outcomes.map(({ name, done, error }) =>
      error === undefined ? done?.result : { name, ...failure(error) },
    );
    out.json(many ? results : results[0]);
  } else {
    for (const { name, done, error } of outcomes) {
      if (error !== undefined) out.errorForPeople(error);
      else if (done?.note !== undefined) out.note(done.note);
      else out.line(done?.line ?? name);
    }
  }
  return outcomes.some(({ error }) => error !== undefined) ? 1 : 0;
}

type Outcome = { readonly name: string; readonly done?: Done; readonly error?: unknown };

async function settled(
  names: readonly string[],
  act: (name: string) => Promise<Done>,
): Promise<readonly Outcome[]> {
  const outcomes: Outcome[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < names.length; at = next++) {
      const name = names[at] ?? "";
      try {
        outcomes[at] = { name, done: await act(name) };
      } catch (error) {
        outcomes[at] = { name, error };
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return outcomes;
}

function failure(error: unknown): { readonly error: unknown } {
  const { code, message, hint } =
    error instanceof HearthError ? error : new HearthError("internal.bug", String(error));
  return { error: { code, message, hint } };
}
