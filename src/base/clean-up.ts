import { toError } from "#base/error.ts";

/**
 * Runs `work` and then `cleanUp`, also after an error. When both fail, the error contains both; a `finally` would
 * replace the first error by the second.
 */
export async function withCleanUp<Result>(
  work: () => Promise<Result>,
  cleanUp: () => unknown,
): Promise<Result> {
  let result: Result;
  try {
    result = await work();
  } catch (error) {
    return failAfter(error, cleanUp);
  }
  await cleanUp();
  return result;
}

/** Runs all clean-ups, also after one that failed, and throws `first`. Errors of the clean-ups are attached to it. */
export async function failAfter(first: unknown, ...cleanUps: readonly (() => unknown)[]): Promise<never> {
  let all = first;
  for (const cleanUp of cleanUps) {
    try {
      await cleanUp();
    } catch (later) {
      all = new SuppressedError(toError(later), all, "A clean-up failed, too.");
    }
  }
  throw all;
}
