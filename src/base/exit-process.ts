/** The time after which `process.exit` ends a process whose event loop has not ended. */
const LATE_MS = 200;

/**
 * Ends the process with this exit code, once the caller's work is done. `process.exit` joins V8's workers while the
 * isolate still lives. A worker that waits for a garbage collection on the main thread, as a background compilation
 * does when the heap is full, then waits for ever, and the process with it (nodejs/node#54918). When the event loop
 * ends by itself, Node disposes of the isolate first, which releases such a worker. So the loop is given a moment to
 * end; it does at once, unless something still waits for input.
 */
export function exitProcess(code: number): void {
  process.exitCode = code;
  setTimeout(() => process.exit(code), LATE_MS).unref();
}

/** Ends the process now, as a crash does: nothing runs after this, and nothing is waited for. */
export function abandonProcess(): never {
  process.kill(process.pid, "SIGKILL");
  throw new Error("A process is still alive after SIGKILL."); // The kernel ends it before that.
}
