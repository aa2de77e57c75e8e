/**
 * Resolves with the value of `promise`, or with undefined after `deadlineMs`. Keeps the process alive meanwhile, as an
 * awaited promise should.
 */
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

/**
 * Resolves with `promise`. Rejects with `late()` after `deadlineMs`, or with the reason of the first of `signals` that
 * aborts. Removes its listeners from the signals, some of which live as long as hearthd. Keeps the process alive
 * meanwhile.
 */
export async function inTime<Value>(
  promise: Promise<Value>,
  deadlineMs: number,
  late: () => Error,
  ...signals: readonly AbortSignal[]
): Promise<Value> {
  const passed = Promise.withResolvers<never>();
  const timer = setTimeout(() => passed.reject(late()), deadlineMs);
  try {
    return await unlessAborted(Promise.race([promise, passed.promise]), ...signals);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves with `promise`, or rejects with the reason of the first of `signals` as soon as it aborts. */
export async function unlessAborted<Value>(
  promise: Promise<Value>,
  ...signals: readonly AbortSignal[]
): Promise<Value> {
  const over = Promise.withResolvers<never>();
  const onAbort = ({ target }: Event): void => over.reject((target as AbortSignal).reason);
  for (const signal of signals) {
    if (signal.aborted) over.reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
  }
  try {
    return await Promise.race([over.promise, promise]);
  } finally {
    for (const signal of signals) signal.removeEventListener("abort", onAbort);
  }
}

/** Makes a signal that aborts with `signal`, or with `late()` after `deadlineMs`. Disposing of it stops the timer. */
export function abortAfter(
  deadlineMs: number,
  late: () => Error,
  signal?: AbortSignal,
): Disposable & { readonly signal: AbortSignal } {
  const passed = new AbortController();
  const timer = setTimeout(() => passed.abort(late()), deadlineMs);
  return {
    signal: AbortSignal.any(signal === undefined ? [passed.signal] : [signal, passed.signal]),
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}
