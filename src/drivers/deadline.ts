/** Undefined when it takes longer than `deadlineMs`. Keeps the process alive meanwhile, as an awaited promise should. */
export async function within<Value>(
  promise: Promise<Value> | undefined,
  deadlineMs: number,
): Promise<Value | undefined> {
  if (promise === undefined) return undefined;
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => late.resolve(undefined), deadlineMs);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
