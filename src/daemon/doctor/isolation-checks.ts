import { toHearthError, errorChain } from "#base/error.ts";
import type { DoctorCheck } from "#api/wire.ts";
import { checkFirewall } from "#daemon/doctor/firewall-check.ts";
import type { Host } from "#daemon/host.ts";
import { findProgram } from "#host/find-program.ts";
import { missingTool } from "#host/run.ts";
import { findJailHost } from "#jail/jail-host.ts";

/** The programs that make networks for VMs. */
const NETWORK_PROGRAMS = ["nft", "tc"] as const;
/** The program that connects them where hearthd is not root. */
const PASTA = "pasta";

/**
 * Checks the isolation of VMMs.
 * @param production turns a risk between guests from a warning into a failure
 */
export async function checkIsolation(
  host: Host,
  production: boolean,
  signal: AbortSignal,
): Promise<DoctorCheck[]> {
  const lacks = production ? "fail" : "warn";
  const networks = checkNetworks(host);
  return [
    await checkJail(signal),
    checkUids(host, lacks),
    checkCgroups(host, lacks),
    networks,
    ...(networks.verdict === "pass" ? await checkFirewall(signal) : []),
  ];
}

async function checkJail(signal: AbortSignal): Promise<DoctorCheck> {
  try {
    const { bwrap } = await findJailHost(signal);
    return { name: "jail", verdict: "pass", found: `with ${bwrap}` };
  } catch (error) {
    signal.throwIfAborted();
    const { hint } = toHearthError(error);
    return { name: "jail", verdict: "fail", found: errorChain(error), fix: hint };
  }
}

/** Warns only: VMs without a network do not need one. */
function checkNetworks({ limitations }: Host): DoctorCheck {
  const name = "networks";
  const missing = NETWORK_PROGRAMS.find((program) => findProgram(program) === undefined);
  if (limitations.network !== undefined) {
    const own =
      findProgram(PASTA) === undefined
        ? missingTool(PASTA).hint
        : "As root: modprobe tun && chmod 0666 /dev/net/tun, which is the mode that udev gives it";
    const fix = `${own}. Or run hearthd beside a helper that is root: docs/helper.md.`;
    return { name, verdict: "warn", found: limitations.network, fix };
  }
  const by = limitations.domains === undefined ? "" : ", connected by pasta; policies have no domains";
  if (missing === undefined)
    return { name, verdict: "pass", found: `a namespace for each VM with --network nat${by}` };
  const { message, hint } = missingTool(missing);
  return { name, verdict: "warn", found: message, fix: hint };
}

function checkUids({ limitations, config }: Host, lacks: DoctorCheck["verdict"]): DoctorCheck {
  const { uidFirst, uidCount } = config.isolation;
  const found = limitations.uid ?? `one for each VM, from ${uidFirst} to ${uidFirst + uidCount - 1}`;
  if (limitations.uid === undefined) return { name: "uids", verdict: "pass", found };
  return {
    name: "uids",
    verdict: lacks,
    found,
    fix: "Run hearthd as root to give each VM its own uid.",
  };
}

function checkCgroups({ limitations }: Host, lacks: DoctorCheck["verdict"]): DoctorCheck {
  const gap = limitations.cgroup;
  if (gap === undefined)
    return { name: "cgroups", verdict: "pass", found: "version 2, with cpu, memory and pids" };
  const fix =
    "Boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), and run hearthd as root outside of containers.";
  return { name: "cgroups", verdict: lacks, found: gap, fix };
}
