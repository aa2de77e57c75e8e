import { HearthError } from "#base/error.ts";
import { LIMITS } from "#model/limits.ts";

/**
 * Kernel arguments that Hearth sets. A second one would break the boot or the agent channel. The kernel strips quotes
 * from an argument before it reads it.
 */
const RESERVED = /^"*(hearth\.|init=|rdinit=|root=|panic=|reboot=)/;
const PRINTABLE = /^[\x21-\x7e]+$/;

/**
 * Checks the kernel arguments of a request or an archive.
 * @throws HearthError `input.invalid`
 */
export function checkBootArgs(args: readonly string[]): void {
  const odd = args.find((arg) => !PRINTABLE.test(arg));
  if (odd !== undefined)
    throw new HearthError(
      "input.invalid",
      `boot-args: ${JSON.stringify(odd)} must be printable ASCII without spaces.`,
    );
  const bytes = args.join(" ").length;
  if (bytes > LIMITS.bootArgsMaxBytes) {
    throw new HearthError(
      "input.invalid",
      `boot-args: ${bytes} bytes are too many; the limit is ${LIMITS.bootArgsMaxBytes}.`,
    );
  }
  const reserved = args.find((arg) => RESERVED.test(arg));
  if (reserved === undefined) return;
  throw new HearthError("input.invalid", `boot-args: ${JSON.stringify(reserved)} is set by Hearth itself.`, {
    hint: "Leave it out; use --init to choose the init.",
  });
}
