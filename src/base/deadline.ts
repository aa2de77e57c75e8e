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

/** Resolves with `promise`, or rejects with the reason of `signal` as soon as that aborts. */
export async function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Makes a signal that aborts with `signal`, or with `late()` after `deadlineMs`. Disposing of it stops the timer. */
export function abortAfter(
  deadlineMs: number,
  late: () => Error,
  signal: AbortSignal,
): Disposable & { readonly signal: AbortSignal } {
  const passed = new AbortController();
  const timer = setTimeout(() => passed.abort(late()), deadlineMs);
  return {
    signal: AbortSignal.any([signal, passed.signal]),
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
