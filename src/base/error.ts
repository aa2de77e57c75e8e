/**
 * All error codes. They are API: add freely, never rename or reuse. `status` is the HTTP answer, `exit` the exit code
 * of a command that failed with the error: 1, or 2 for usage. `run` and `exec` turn both into 125, because lower codes
 * belong to the guest command.
 */
export const ERROR_CODES = {
  "input.invalid": { status: 400, exit: 2 },
  "input.too_large": { status: 413, exit: 2 },
  "name.taken": { status: 409, exit: 1 },
  "port.taken": { status: 409, exit: 1 },
  "vm.not_found": { status: 404, exit: 1 },
  "vm.wrong_phase": { status: 409, exit: 1 },
  "vm.busy": { status: 409, exit: 1 },
  "vm.boot_failed": { status: 500, exit: 1 },
  "vm.unclean": { status: 500, exit: 1 },
  "vm.identity_failed": { status: 500, exit: 1 },
  "vm.gone": { status: 410, exit: 1 },
  "vm.panicked": { status: 410, exit: 1 },
  "vmm.failed": { status: 500, exit: 1 },
  "vmm.install_failed": { status: 500, exit: 1 },
  "vmm.not_isolated": { status: 500, exit: 1 },
  "vmm.missing": { status: 500, exit: 1 },
  "vmm.unresponsive": { status: 504, exit: 1 },
  "agent.unreachable": { status: 503, exit: 1 },
  "agent.failed": { status: 500, exit: 1 },
  "exec.not_found": { status: 422, exit: 127 },
  "exec.not_executable": { status: 422, exit: 126 },
  "exec.bad_user": { status: 422, exit: 1 },
  "guest.disk_full": { status: 507, exit: 1 },
  "file.not_found": { status: 404, exit: 1 },
  "file.refused": { status: 422, exit: 1 },
  "file.skipped": { status: 422, exit: 1 },
  "image.not_found": { status: 404, exit: 1 },
  "image.build_failed": { status: 500, exit: 1 },
  "image.corrupt": { status: 500, exit: 1 },
  "image.in_use": { status: 409, exit: 1 },
  "kernel.unsupported": { status: 422, exit: 1 },
  "disk.missing": { status: 500, exit: 1 },
  "volume.not_found": { status: 404, exit: 1 },
  "volume.in_use": { status: 409, exit: 1 },
  "disk.corrupt": { status: 500, exit: 1 },
  "snapshot.not_found": { status: 404, exit: 1 },
  "snapshot.in_use": { status: 409, exit: 1 },
  "snapshot.failed": { status: 500, exit: 1 },
  "snapshot.corrupt": { status: 500, exit: 1 },
  "archive.corrupt": { status: 422, exit: 1 },
  "snapshot.mismatch": { status: 422, exit: 1 },
  "feature.missing": { status: 422, exit: 1 },
  "download.failed": { status: 502, exit: 1 },
  "host.tool_missing": { status: 500, exit: 1 },
  "host.tool_failed": { status: 500, exit: 1 },
  "host.memory_short": { status: 507, exit: 1 },
  "host.disk_full": { status: 507, exit: 1 },
  "host.read_only": { status: 500, exit: 1 },
  "host.path_too_long": { status: 500, exit: 1 },
  "host.uids_used_up": { status: 507, exit: 1 },
  "host.addresses_used_up": { status: 507, exit: 1 },
  "host.uid_busy": { status: 500, exit: 1 },
  "host.uid_unmapped": { status: 500, exit: 1 },
  "host.lock_held": { status: 409, exit: 1 },
  "host.helper_gone": { status: 503, exit: 1 },
  "path.unmanaged": { status: 500, exit: 1 },
  "store.busy": { status: 503, exit: 1 },
  "store.corrupt": { status: 500, exit: 1 },
  "store.too_new": { status: 500, exit: 1 },
  "config.invalid": { status: 500, exit: 2 },
  "daemon.unreachable": { status: 503, exit: 1 },
  "daemon.stopping": { status: 503, exit: 1 },
  "daemon.start_failed": { status: 500, exit: 1 },
  "api.not_found": { status: 404, exit: 1 },
  "api.wrong_method": { status: 405, exit: 1 },
  "api.websocket_only": { status: 426, exit: 1 },
  "operation.cancelled": { status: 503, exit: 130 },
  "operation.not_found": { status: 404, exit: 1 },
  "operation.taken": { status: 409, exit: 1 },
  "operation.lasting": { status: 409, exit: 1 },
  "operation.too_many": { status: 429, exit: 1 },
  "operation.not_detachable": { status: 422, exit: 1 },
  "operation.taken_over": { status: 409, exit: 1 },
  "operation.timed_out": { status: 504, exit: 124 },
  "internal.bug": { status: 500, exit: 1 },
} as const satisfies Record<string, { status: number; exit: number }>;

export type ErrorCode = keyof typeof ERROR_CODES;

export type ErrorMore = {
  readonly hint?: string | undefined;
  readonly cause?: unknown;
  /** A later failure, such as that of a clean-up. */
  readonly later?: unknown;
};

export class HearthError extends Error {
  override readonly name = "HearthError";
  readonly code: ErrorCode;
  /** The next thing that the user can do, as one imperative sentence. */
  readonly hint: string | undefined;
  /** A later failure, such as that of a clean-up. */
  readonly later: unknown;

  constructor(code: ErrorCode, message: string, more: ErrorMore = {}) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.code = code;
    this.hint = more.hint;
    this.later = more.later;
  }
}

/** The form of an error on the wire and under `--json`. */
export type ErrorBody = {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string | undefined;
  /** The operation that failed, as in hearthd's log. */
  readonly operation?: string | undefined;
};

/** Returns the thrown value as an Error. */
export function toError(thrown: unknown): Error {
  if (thrown instanceof Error) return thrown;
  if (typeof thrown === "string") return new Error(thrown);
  return new Error(`Something other than an error was thrown: ${describeThrown(thrown)}`);
}

function describeThrown(thrown: unknown): string {
  try {
    return JSON.stringify(thrown) ?? String(thrown);
  } catch {
    return String(thrown); // JSON has no form for a cycle or a BigInt.
  }
}

/** Returns the thrown value as an error with a code. Errors that no code foresaw are `internal.bug`. */
export function toHearthError(thrown: unknown): HearthError {
  if (thrown instanceof HearthError) return thrown;
  if (thrown instanceof SuppressedError) {
    const { code, message, hint, cause, later } = toHearthError(thrown.suppressed);
    const all = later === undefined ? thrown.error : new AggregateError([later, thrown.error]);
    return new HearthError(code, message, { hint, cause, later: all });
  }
  const error = toError(thrown);
  return (
    systemError(error) ??
    new HearthError("internal.bug", "Unexpected error in Hearth.", {
      hint: "Please report it, with the details from `hearth daemon logs`.",
      cause: error,
    })
  );
}

/** Maps errors of the operating system that the user can fix, wherever they are thrown. */
function systemError(error: Error): HearthError | undefined {
  const { code, path } = error as NodeJS.ErrnoException;
  const where = path === undefined ? "" : ` at ${path}`;
  if (code === "ENOSPC" || code === "EDQUOT") {
    const hint = "Free some space: `hearth ls`, `hearth image ls` and `hearth volume ls` show what uses it.";
    return new HearthError("host.disk_full", `The disk is full${where}.`, { hint, cause: error });
  }
  if (code === "EROFS") {
    const hint = "Make the directory writable, or set HEARTH_HOME to another directory.";
    return new HearthError("host.read_only", `The file system is read-only${where}.`, { hint, cause: error });
  }
  return undefined;
}

/**
 * Returns an error and all errors behind it as one sentence: causes, aggregated errors, later failures. No other code
 * turns a chain into text, and no message repeats its cause.
 */
export function errorChain(error: unknown): string {
  return describeError(error, new Set());
}

/** `seen` ends the sentence at an error that is its own cause. */
function describeError(error: unknown, seen: Set<unknown>): string {
  if (!(error instanceof Error)) return typeof error === "object" ? describeThrown(error) : String(error);
  if (seen.has(error)) return "(as above)";
  seen.add(error);
  if (error instanceof SuppressedError) {
    const first = describeError(error.suppressed, seen);
    return `${first} After that: ${describeError(error.error, seen)}`;
  }
  const behind = [
    ...(error instanceof AggregateError ? error.errors : []),
    ...(error.cause === undefined ? [] : [error.cause]),
  ].map((each) => describeError(each, seen));
  // The cause continues the sentence, so the full stop moves to the end.
  const message = behind.length > 0 ? error.message.replace(/\.$/, "") : error.message;
  const all = [message, behind.join("; ")].filter((text) => text !== "").join(": ");
  return error instanceof HearthError && error.later !== undefined
    ? `${all} After that: ${describeError(error.later, seen)}`
    : all;
}

export function errorBody(thrown: unknown, operation?: string): ErrorBody {
  const error = toHearthError(thrown);
  return { code: error.code, message: errorChain(error), hint: error.hint, operation };
}

/** Asserts what can only be broken by a bug. The failure is reported as one. */
export function invariant(condition: unknown, sentence: string): asserts condition {
  if (!condition) throw new HearthError("internal.bug", `Broken invariant: ${sentence}.`);
}
