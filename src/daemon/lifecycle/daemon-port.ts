/** Opens hearthd's privileged port: in its own process, or in the helper's at the other end of a socket. */
import { Socket } from "node:net";
import { HearthError } from "#base/error.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import type { Config } from "#daemon/config.ts";
import { jailsDir, snapshotsDir, vmRunsDir, vmsDir, volumesDir } from "#daemon/store/paths.ts";
import { firecrackerPrograms } from "#drivers/firecracker/install/find-firecracker.ts";
import { DEFAULT_QEMU } from "#drivers/qemu/installed-qemu.ts";
import type { GuestNetworks } from "#helper/guest-networks.ts";
import type { HelperSettings } from "#helper/helper-settings.ts";
import type { PrivilegedPort } from "#helper/privileged-port.ts";
import { PrivilegedVerbs } from "#helper/privileged-verbs.ts";
import { networkPrograms, ownProgram } from "#helper/vm-networks.ts";
import { CGROUP_ROOT } from "#host/cgroup.ts";
import { NETWORK_NAMESPACES } from "#network/vm-network.ts";

/** The uids in use by VMs, of the whole host. A reboot removes the file with the processes. */
const UID_LEASES = "/run/hearth/uids";

/** The port. Disposing of it closes the connection to the helper, which then ends. */
export type DaemonPort = Disposable & { readonly port: PrivilegedPort };

export type PortOptions = {
  readonly dirs: Dirs;
  /** The directory of `hearth-netns-x86_64`, `hearth-resolver-x86_64` and so on. */
  readonly agentDir: string;
  readonly config: Config;
  /** An open socket whose other end the helper serves; undefined for a port in this process. */
  readonly helperFd: number | undefined;
  /** Called when the helper has ended by itself, with the error of all further calls. */
  readonly onGone: (error: HearthError) => void;
};

/** Returns the settings of a helper for the hearthd with these directories, which runs as `owner`. */
export function helperSettings(
  { dirs, agentDir }: Pick<PortOptions, "dirs" | "agentDir">,
  { isolation, drivers, firecracker }: Config,
  owner: HelperSettings["owner"],
): HelperSettings {
  const installed = firecrackerPrograms({ cacheDir: dirs.cache, ...firecracker });
  return {
    roots: {
      vms: vmsDir(dirs),
      volumes: volumesDir(dirs),
      snapshots: snapshotsDir(dirs),
      runs: vmRunsDir(dirs),
      jails: jailsDir(dirs),
      leases: UID_LEASES,
      networks: NETWORK_NAMESPACES,
      cgroups: CGROUP_ROOT,
    },
    uids: { first: isolation.uidFirst, count: isolation.uidCount },
    programs: {
      programs: [drivers.qemu.program ?? DEFAULT_QEMU, ...installed.programs],
      dirs: installed.dirs,
    },
    networkPrograms: networkPrograms(agentDir),
    tools: ["qemu-img"],
    owner,
  };
}

/** Opens the port. @throws HearthError `config.invalid` when `helperFd` is no open socket */
export async function openPort(options: PortOptions): Promise<DaemonPort> {
  const { config, helperFd, onGone } = options;
  if (helperFd === undefined) {
    const owner = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 };
    const networks = owner.uid === 0 ? undefined : await networksOf(options, owner);
    const port = new PrivilegedVerbs({ ...helperSettings(options, config, owner), networks });
    return { port, [Symbol.dispose]: () => {} };
  }
  const { PortClient } = await import("#helper/port-client.ts"); // It takes memory, and most hearthds do without.
  const client = new PortClient(openSocket(helperFd));
  void client.gone.then(onGone);
  return { port: client, [Symbol.dispose]: () => client.close() };
}

/** Returns what makes networks without root. */
async function networksOf(
  { dirs, agentDir }: PortOptions,
  user: HelperSettings["owner"],
): Promise<GuestNetworks> {
  const { PastaNetworks } = await import("#helper/pasta-networks.ts"); // For hearthds that are not root alone.
  return new PastaNetworks(ownProgram(agentDir, "hearth-uplink"), vmsDir(dirs), user);
}

function openSocket(fd: number): Socket {
  try {
    return new Socket({ fd });
  } catch (cause) {
    throw new HearthError(
      "config.invalid",
      `Cannot reach the helper: file descriptor ${fd} is not a socket.`,
      {
        hint: "Start hearthd with --helper-fd=N from a program that opens N, or without this flag.",
        cause,
      },
    );
  }
}
