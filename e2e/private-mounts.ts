/**
 * Runs a program where some directories look different: in a mount namespace of its own, so that a full disk or a
 * missing program is one for it alone. hearthd and the VMs that it starts are in there with it.
 */
import { runCli } from "./run-cli.ts";
import type { CliOptions, CliResult } from "./run-cli.ts";

/** Root mounts; anybody else becomes root of a user namespace first. */
const UNSHARE = process.getuid?.() === 0 ? ["--mount"] : ["--mount", "--map-root-user"];

/** `mounts`: lines of sh(1), of which the first that fails ends it all. */
export function runWithMounts(
  mounts: readonly string[],
  argv: readonly string[],
  options: CliOptions,
): Promise<CliResult> {
  const script = ["set -e", ...mounts, 'exec "$@"'].join("\n");
  return runCli("unshare", [...UNSHARE, "sh", "-c", script, "sh", ...argv], options);
}

/** Why this machine cannot do that, or false when it can; for `skip`. */
export async function cannotMount(): Promise<string | false> {
  const { code, stderr } = await runWithMounts(["mount -t tmpfs none /mnt"], ["true"], {
    env: process.env as Record<string, string>,
  });
  return code === 0 ? false : `mounting in a namespace is not possible here: ${stderr.trim()}`;
}
