import { findProcess, listCommands } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";

/**
 * Finds the VMMs that were started for the VM with this run directory, and the launchers that have not become one yet.
 * Recovery uses it after hearthd was killed between starting a VMM and storing its pid.
 *
 * They are recognized by the sockets that they were told to create, not by program names: the configuration may name
 * any program as VMM. A user's program that opens one of the sockets is not recognized.
 */
export function findOrphanVmms(runDir: string): ProcessRef[] {
  return listCommands()
    .filter(({ argv }) => makesSocketsIn(runDir, argv))
    .flatMap(({ pid }) => findProcess(pid) ?? []);
}

/** Recognizes the arguments of QEMU and of Firecracker; launchers have them after their own. */
function makesSocketsIn(runDir: string, argv: readonly string[]): boolean {
  // QEMU doubles commas in the values of its options.
  const path = `,path=${runDir.replaceAll(",", ",,")}/`;
  return argv.some((argument, index) => {
    if (argv[index - 1] === "--api-sock") return argument.startsWith(`${runDir}/`);
    return argument.startsWith("socket,") && argument.includes(path) && argument.includes(",server=on");
  });
}
