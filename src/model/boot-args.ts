import { HearthError } from "#base/error.ts";
import { LIMITS } from "#model/limits.ts";

/**
 * Arguments of the kernel that Hearth sets itself; a second one would break the boot or the agent's channel. The
 * kernel takes quotes off an argument before it looks at it.
 */
const OURS = /^"*(hearth\.|init=|rdinit=|root=|panic=|reboot=)/;
const PRINTABLE = /^[\x21-\x7e]+$/;

/**
 * Checks what somebody else adds to the kernel's command line, in a request or in an archive.
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
  const ours = args.find((arg) => OURS.test(arg));
  if (ours === undefined) return;
  throw new HearthError("input.invalid", `boot-args: ${JSON.stringify(ours)} is set by Hearth itself.`, {
    hint: "Leave it out; use --init to choose the init.",
  });
}
