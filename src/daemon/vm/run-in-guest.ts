/** Runs hearthd's own commands in guests of internal VMs. */
import { toHearthError } from "#base/error.ts";
import type { Guest } from "#daemon/host.ts";

/** Runs a command and returns its exit code, or undefined if the image lacks the program. */
export async function runInGuest(
  guest: Guest,
  argv: readonly string[],
  options: { readonly timeoutMs?: number; readonly signal: AbortSignal },
): Promise<number | undefined> {
  const { timeoutMs, signal } = options;
  let code: number | undefined;
  try {
    const spec = { argv, env: {}, stdin: false, detach: false, timeoutMs };
    for await (const event of guest.exec(spec, { id: "hearthd" }, signal))
      if (event.type === "exited") code = event.code;
  } catch (error) {
    if (!["exec.not_found", "exec.not_executable"].includes(toHearthError(error).code)) throw error;
  }
  return code;
}
