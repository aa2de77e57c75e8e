import { toError } from "#base/error.ts";

/**
 * Runs `cleanUp` after `work`, however that ended. Where both fail, the error has both: a `finally` would replace the
 * failure of the work by that of the clean-up.
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

/**
 * Runs each clean-up, also after one that failed, and throws `first`: with what the clean-ups failed with, where one of
 * them did.
 */
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
