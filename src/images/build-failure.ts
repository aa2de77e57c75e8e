import { HearthError } from "#base/error.ts";

/** The length of the stderr tail that an error shows. */
const WORDS_MAX_LINES = 6;
const NETWORK =
  /Could not resolve|Temporary failure|Failed to fetch|Unable to connect|Could not connect|Connection (?:failed|refused|timed out)|Network is unreachable|404 {2}Not Found/i;
const KEYS = /NO_PUBKEY|is not signed|signatures? couldn't be verified|InRelease.*not available/i;

/**
 * Converts a tool's failure into the build's: a full disk and a read-only cache have their own codes, a missing tool
 * and a cancelled build keep theirs, and the rest is `image.build_failed` with the stderr tail.
 */
export function describeBuildFailure(ref: string, failed: HearthError, stderr: string): HearthError {
  if (failed.code !== "host.tool_failed") return failed;
  if (/No space left on device/i.test(stderr)) {
    const hint = "Free some space: `hearth ls`, `hearth image ls` and `hearth volume ls` show what uses it.";
    return new HearthError("host.disk_full", `The disk became full during the build of ${ref}`, {
      hint,
      cause: failed,
    });
  }
  if (/Read-only file system/i.test(stderr)) {
    const hint = "Make the cache directory writable, or set HEARTH_HOME to another directory.";
    return new HearthError("host.read_only", `Cannot build the image ${ref}: the cache is read-only`, {
      hint,
      cause: failed,
    });
  }
  return new HearthError("image.build_failed", `Cannot build the image ${ref}`, {
    hint: hintFor(ref, stderr),
    cause: new HearthError("host.tool_failed", shorten(failed.message), {
      cause: new Error(stderrTail(stderr)),
    }),
  });
}

function hintFor(ref: string, stderr: string): string {
  if (KEYS.test(stderr)) return "Install Debian's keys: apt-get install debian-archive-keyring";
  if (NETWORK.test(stderr)) return "Check the network and the mirror in /etc/apt, then build again.";
  return `Build again with \`hearth image build ${ref}\`; if it fails again, please report it.`;
}

/** Leaves the arguments out, which contain whole scripts: the program and its exit are readable. */
function shorten(message: string): string {
  return message.replace(/^`(?:setpriv .*? -- )?(?:unshare .*? -- )?(\S+).*` /s, "`$1` ");
}

/** Returns the lines with errors if there are any, otherwise the end. */
function stderrTail(stderr: string): string {
  const lines = stderr.split("\n").filter((line) => line.trim() !== "");
  const errors = lines.filter((line) => /^(?:E|Err|dpkg: error|mke2fs)[:\s]/.test(line));
  return (errors.length > 0 ? errors : lines).slice(-WORDS_MAX_LINES).join("\n") || "It printed nothing.";
}
