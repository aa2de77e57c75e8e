/** The private networks of VMs: those on one reach each other, by the names `NAME.hearth`. */
import { HearthError } from "#base/error.ts";
import { LIMITS } from "#model/limits.ts";

/** A label of DNS (RFC 1123). */
const NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Checks the private networks of one VM, and returns them. @throws HearthError `input.invalid` */
export function checkPrivateNetworks(names: readonly string[]): readonly string[] {
  if (names.length > LIMITS.privateNetworksMax)
    throw new HearthError(
      "input.invalid",
      `networks: a VM is on at most ${LIMITS.privateNetworksMax} private networks.`,
    );
  for (const [index, name] of names.entries()) {
    if (!NAME.test(name))
      throw new HearthError("input.invalid", `networks: ${JSON.stringify(name)} is no name of a network.`, {
        hint: "Use lower-case letters, digits and hyphens, up to 63 characters, such as dev.",
      });
    if (names.indexOf(name) !== index)
      throw new HearthError("input.invalid", `networks: ${name} is given twice.`);
  }
  return names;
}
