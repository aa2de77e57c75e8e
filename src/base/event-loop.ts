/** Below the limit of setTimeout, 2^31-1 ms. */
const TICK_MS = 2_000_000_000;

/**
 * Keeps the process alive until it is disposed of. Deadlines made with `AbortSignal.timeout` and sockets that were
 * unreferenced do not: a process that waits for nothing else ends in the middle of an `await`, with exit code 13.
 */
export function blockEventLoop(): Disposable {
  const timer = setInterval(() => {}, TICK_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
