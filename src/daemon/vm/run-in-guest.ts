/** hearthd's own commands in guests that are nobody's yet. */
import { toHearthError } from "#base/error.ts";
import type { Guest } from "#daemon/host.ts";

/** Its exit code; undefined where the image has no such program, which the agent was there to say. */
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
