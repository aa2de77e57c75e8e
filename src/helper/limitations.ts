/** Finds what the privileged port cannot do on this host, and checks the limits that it sets. */
import { errorChain, HearthError } from "#base/error.ts";
import { CGROUP_PARENT } from "#helper/helper-roots.ts";
import type { Limitations } from "#helper/privileged-port.ts";
import type { VerbOptions } from "#helper/privileged-verbs.ts";
import { missingCgroups, prepareCgroups } from "#host/cgroup.ts";
import type { CgroupLimits } from "#host/cgroup.ts";
import { LIMITS } from "#model/limits.ts";

const NO_UID =
  "hearthd does not run as root, so the VMM runs with the uid of hearthd, in its own user namespace.";
const NO_GAPS = { network: undefined, domains: undefined };
const NO_NETWORKS = {
  network: "VMs have no network of their own, because hearthd does not run as root.",
  domains: undefined,
};
const NO_CGROUP_RIGHT = notLimited("hearthd does not run as root");

export function findLimitations(
  isRoot: boolean,
  { roots: { cgroups }, networks }: Pick<VerbOptions, "roots" | "networks">,
): Limitations {
  return {
    uid: isRoot ? undefined : NO_UID,
    cgroup: isRoot ? findCgroupGap(cgroups) : NO_CGROUP_RIGHT,
    ...(isRoot ? NO_GAPS : (networks?.gaps ?? NO_NETWORKS)),
  };
}

/** @throws HearthError `input.invalid` for limits that no VM can have */
export function checkLimits({ cpus, memoryBytes, tasks }: CgroupLimits): void {
  const isCount = (value: number, max: number): boolean =>
    Number.isSafeInteger(value) && value >= 1 && value <= max;
  if (
    isCount(cpus, LIMITS.cpusMax) &&
    isCount(memoryBytes, 2 * LIMITS.memoryMaxBytes) &&
    isCount(tasks, 65_536)
  )
    return;
  throw new HearthError("input.invalid", "A cgroup's limits must be whole numbers that a VM may have.");
}

/** Tries at once, because the tree of a container may exist and not be writable. */
function findCgroupGap(root: string): string | undefined {
  const gap = missingCgroups(root);
  if (gap !== undefined) return notLimited(gap);
  try {
    prepareCgroups(root, CGROUP_PARENT);
    return undefined;
  } catch (error) {
    const why = errorChain(error).replace(/\.$/, "");
    return notLimited(`hearthd cannot create cgroups (${why})`);
  }
}

function notLimited(reason: string): string {
  return `The CPU time, memory and tasks of the VMM are not limited, because ${reason}.`;
}
