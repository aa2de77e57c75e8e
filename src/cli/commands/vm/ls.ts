import type { Vm } from "#api/wire.ts";
import { formatDurationRounded } from "#base/durations.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { parseVmFilters } from "#model/vm-filter.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["ls"],
  summary: "List VMs",
  about:
    "All VMs are listed, those that do not run, too. Several filters narrow the list: a VM has to have all the labels, and " +
    "one of the states and of the parts of names.",
  args: [],
  flags: {
    all: { short: "a", help: "Accepted for habit: all VMs are listed anyway" },
    filter: {
      short: "f",
      value: "FILTER",
      many: true,
      help: "label=KEY, label=KEY=VALUE, state=PHASE or name=PART",
    },
    quiet: { short: "q", help: "Print names alone" },
  },
  examples: [
    ["hearth ls", "All VMs, newest first"],
    ["hearth ls --filter label=team=web --filter state=running", "Those of a team that run"],
    ["hearth rm -f $(hearth ls -q)", "Removes them all"],
    ["hearth ls --json | jq '.[].name'", "For programs"],
  ],
  async run({ flags, out, hearth }) {
    parseVmFilters(flags.filter); // Checked before hearthd is asked, or started.
    const vms = await (await hearth()).vms.list(undefined, flags.filter);
    if (out.wantsJson) return out.json(vms);
    if (flags.quiet) {
      for (const vm of vms) out.line(vm.name);
      return;
    }
    if (vms.length === 0 && flags.filter.length > 0) out.note("No VM is like that.");
    else if (vms.length === 0) out.note("There are no VMs. `hearth run debian` makes one.");
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
