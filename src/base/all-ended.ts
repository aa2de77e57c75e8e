/**
 * Resolves with the values of all promises. If one rejects, rejects with its reason, but not before all have ended:
 * whoever cleans up then has no race with work that is still under way.
 */
export async function allEnded<Values extends readonly unknown[]>(
  promises: readonly [...Values],
): Promise<{ -readonly [Key in keyof Values]: Awaited<Values[Key]> }> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}
