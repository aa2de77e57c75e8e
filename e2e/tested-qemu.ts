/** The value of HEARTH_E2E_QEMU that stands for the host's own QEMU. */
const HOST = "host";

/**
 * The QEMU that VMs of this run have, where it is not the one on PATH. tools/dev.ts sets it for `e2e-boot`, so that two
 * QEMUs are tested in one run.
 */
export function testedQemu(): string | undefined {
  const program = process.env["HEARTH_E2E_QEMU"];
  return program === HOST ? undefined : program;
}
