import type { Vm } from "#api/wire.ts";
import { formatDurationRounded } from "#base/durations.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["ls"],
  summary: "List VMs",
  args: [],
  flags: { quiet: { short: "q", help: "Print names alone" } },
  examples: [
    ["hearth ls", "All VMs, newest first"],
    ["hearth rm -f $(hearth ls -q)", "Removes them all"],
    ["hearth ls --json | jq '.[].name'", "For programs"],
  ],
  async run({ flags, out, hearth }) {
    const vms = await (await hearth()).vms.list();
    if (out.wantsJson) return out.json(vms);
    if (flags.quiet) {
      for (const vm of vms) out.line(vm.name);
      return;
    }
    if (vms.length === 0) out.note("There are no VMs. `hearth run debian` makes one.");
    const rows = vms.map((vm) => [
      vm.name,
      vm.image,
      describePhase(vm),
      String(vm.cpus),
      formatSizeRounded(vm.memoryBytes),
      vm.startedAtMs === undefined ? "-" : formatDurationRounded(Math.max(0, Date.now() - vm.startedAtMs)),
    ]);
    if (vms.length > 0) out.table(["NAME", "IMAGE", "STATE", "CPUS", "MEMORY", "UPTIME"], rows);
  },
});

const CAUSES = { "disk-full": "disk full", "disk-failed": "disk failed", vmm: "by its VMM" } as const;

function describePhase(vm: Vm): string {
  if (vm.recovering === true) return `${vm.phase}, recovering`;
  if (vm.pauseCause !== undefined) return `${vm.phase}, ${CAUSES[vm.pauseCause]}`;
  return vm.responsive === false ? `${vm.phase}, silent` : vm.phase;
}
