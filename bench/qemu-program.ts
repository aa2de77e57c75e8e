import { isAbsolute } from "node:path";
import { DEFAULT_QEMU } from "#drivers/qemu/installed-qemu.ts";

let given: string | undefined;

/** Has all VMs of this run use the QEMU at an absolute path, in place of the one on PATH. */
export function useQemu(program: string | undefined): void {
  if (program !== undefined && !isAbsolute(program))
    throw new Error(`--qemu takes an absolute path, and ${program} is none.`);
  given = program;
}

/** Undefined: the one on PATH. */
export function givenQemu(): string | undefined {
  return given;
}

/** To start it by. */
export function qemuProgram(): string {
  return given ?? DEFAULT_QEMU;
}
