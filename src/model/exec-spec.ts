import { HearthError } from "#base/error.ts";
import { LIMITS } from "#model/limits.ts";

export type TtySize = { readonly rows: number; readonly cols: number };

/** A command in a guest. No shell is involved: the guest gets `argv` byte for byte. */
export type ExecSpec = {
  /** May be empty: the image's own command, or a login shell if there is a terminal or no command. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly user?: string | undefined;
  readonly workdir?: string | undefined;
  /** Asks for a pseudo terminal of this size. stdout and stderr are then one stream. */
  readonly tty?: (TtySize & { readonly term: string }) | undefined;
  /** False if stdin is at its end from the start. */
  readonly stdin: boolean;
  /** Keeps the command running when no client is connected. */
  readonly detach: boolean;
  /** SIGTERM, then SIGKILL, after this time; the exit code is then 124. */
  readonly timeoutMs?: number | undefined;
};

const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * Checks the limits of exec: no NUL bytes, arguments under 128 KiB, variable names that a shell knows.
 * @throws HearthError `input.invalid`
 */
export function checkExec(spec: Pick<ExecSpec, "argv" | "env">): void {
  let total = 0;
  const words = [...spec.argv, ...Object.entries(spec.env).map(([name, value]) => `${name}=${value}`)];
  for (const word of words) {
    const bytes = Buffer.byteLength(word);
    total += bytes + 1;
    if (word.includes("\0"))
      throw invalid(
        "argv: an argument contains a NUL byte",
        "Arguments cannot contain one; pass it on stdin.",
      );
    if (bytes >= LIMITS.argumentMaxBytes) {
      throw invalid(
        `argv: an argument has ${bytes} bytes; the limit of Linux is ${LIMITS.argumentMaxBytes - 1}`,
        "Pass it on stdin.",
      );
    }
  }
  const variables = Object.entries(spec.env).reduce(
    (sum, pair) => sum + Buffer.byteLength(pair.join("=")) + 1,
    0,
  );
  if (variables > LIMITS.variablesMaxBytes) {
    throw invalid(
      `env: the variables have ${variables} bytes; the limit is ${LIMITS.variablesMaxBytes}`,
      "Copy a file with them into the VM: `hearth cp`.",
    );
  }
  if (total > LIMITS.argumentsMaxBytes) {
    throw invalid(
      `argv: the arguments and variables have ${total} bytes; the limit is ${LIMITS.argumentsMaxBytes}`,
      "Pass them on stdin.",
    );
  }
  for (const name of Object.keys(spec.env)) checkEnvName(name);
}

/** @throws HearthError `input.invalid` */
export function checkEnvName(name: string): void {
  if (ENV_NAME.test(name)) return;
  throw invalid(
    `env: ${JSON.stringify(name.slice(0, 80))} is not a variable name`,
    "Write NAME=VALUE, with letters, digits and _.",
  );
}

function invalid(message: string, hint: string): HearthError {
  return new HearthError("input.invalid", `${message}.`, { hint });
}
