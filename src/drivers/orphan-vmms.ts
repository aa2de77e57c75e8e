import { findProcess, listCommands } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";

/**
 * Finds the VMMs that were started for the VM with this run directory, and the launchers that are yet to become one. A
 * hearthd that was killed between starting a VMM and storing its pid finds it with this.
 *
 * They are known by the sockets that they were told to make, not by their names: a VMM may be any program that the
 * configuration names, and a program of the user's that looks at one of the sockets is none.
 */
export function findOrphanVmms(runDir: string): ProcessRef[] {
  return listCommands()
    .filter(({ argv }) => makesSocketsIn(runDir, argv))
    .flatMap(({ pid }) => findProcess(pid) ?? []);
}

/** The arguments of QEMU and of Firecracker; their launchers have them behind their own. */
function makesSocketsIn(runDir: string, argv: readonly string[]): boolean {
  // QEMU doubles commas in the values of its options.
  const path = `,path=${runDir.replaceAll(",", ",,")}/`;
  return argv.some((argument, index) => {
    if (argv[index - 1] === "--api-sock") return argument.startsWith(`${runDir}/`);
    return argument.startsWith("socket,") && argument.includes(path) && argument.includes(",server=on");
  });
}
