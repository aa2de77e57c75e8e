import type { Host } from "#daemon/host.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import type { BootIsolation } from "#drivers/boot-isolation.ts";
import type { Isolation, NetworkNamespace } from "#model/isolation.ts";
import type { VmRecord } from "#model/vm.ts";

/** The sentences that `hearth show` has for isolation that the user left out. */
const LEFT_OUT: Readonly<Record<keyof Isolation, string>> = {
  jail: "Created with --no-jail: the VMM runs as the user of hearthd, with all permissions of this user.",
  pidNamespace: "Created with --no-pid-ns: the VMM is in the PID namespace of the host.",
  cgroup: "Created with --no-cgroup: the CPU time, memory and tasks of the VMM are not limited.",
  seccomp: "Created with --no-seccomp: the VMM may use any system call.",
};

/** Returns the isolation of one boot: what the spec asks for, with a sentence for all that is missing. */
export async function bootIsolation(
  host: Host,
  vm: VmRecord,
  network: NetworkNamespace,
): Promise<BootIsolation> {
  const { helper, limitations } = host;
  const { isolation } = vm.spec;
  const { jail, pidNamespace, seccomp } = isolation;
  const parts = Object.keys(LEFT_OUT) as (keyof Isolation)[];
  const gaps = parts.filter((part) => !isolation[part]).map((part) => LEFT_OUT[part]);
  if (jail && limitations.uid !== undefined) gaps.push(limitations.uid);
  if (isolation.cgroup && limitations.cgroup !== undefined) gaps.push(limitations.cgroup);
  return {
    jail,
    pidNamespace,
    seccomp,
    network,
    jailDir: vmPaths(host.dirs, vm.id).jailDir,
    uid: jail ? await helper.uidOf(vm.id) : undefined,
    cgroup: isolation.cgroup ? await helper.cgroupOf(vm.id) : undefined,
    gaps,
    launch: ({ program, args, files, fileMaxBytes, stdin, stdout, jailer }, signal) => {
      const launch = { program, args, files, fileMaxBytes, stdin, stdout, jailer };
      const chosen = { jail, pidNamespace, network, cgroup: isolation.cgroup };
      const priority = vm.spec.internal ?? "foreground";
      return helper.launchVmm(vm.id, { ...launch, isolation: chosen, priority }, signal);
    },
    // The spec says whether there is a filter; the driver loads it.
    findFaults: (vmm, options) =>
      helper.findIsolationFaults(vm.id, vmm, { seccomp: options.seccomp && seccomp }),
    end: async (process, signal) => void (await helper.endVmm(vm.id, process, 0, signal)),
    giveMemoryCopy: () => helper.giveMemoryCopy(vm.id),
    seal: () => helper.sealRunDir(vm.id),
  };
}
