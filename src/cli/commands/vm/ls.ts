import type { Vm } from "#api/wire.ts";
import { formatDurationRounded } from "#base/durations.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { parseVmFilters } from "#model/vm-filter.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["ls"],
  summary: "List VMs",
  about:
    "Lists all VMs, running or not. With several filters, a VM must have all the labels, one of the " +
    "states and one of the name parts.",
  args: [],
  flags: {
    all: { short: "a", help: "No effect: all VMs are always listed" },
    filter: {
      short: "f",
      value: "FILTER",
      many: true,
      help: "label=KEY, label=KEY=VALUE, state=PHASE or name=PART",
    },
    quiet: { short: "q", help: "Only print names" },
  },
  examples: [
    ["hearth ls", "List all VMs, newest first"],
    ["hearth ls --filter label=team=web --filter state=running", "List the running VMs with a label"],
    ["hearth rm -f $(hearth ls -q)", "Remove all VMs"],
    ["hearth ls --json | jq '.[].name'", "Print JSON for programs"],
  ],
  async run({ flags, out, hearth }) {
    parseVmFilters(flags.filter); // Checked before hearthd is contacted or started.
    const vms = await (await hearth()).vms.list(undefined, flags.filter);
    if (out.wantsJson) return out.json(vms);
    if (flags.quiet) {
      for (const vm of vms) out.line(vm.name);
      return;
    }
    if (vms.length === 0 && flags.filter.length > 0) out.note("No VM matches the filter.");
    else if (vms.length === 0) out.note("There are no VMs. `hearth run debian` creates one.");
    const rows = vms.map((vm) => [
      vm.name,
      vm.image,
      describePhase(vm),
      String(vm.cpus),
      formatSizeRounded(vm.memoryBytes),
      vm.startedAtMs === undefined ? "-" : formatDurationRounded(Math.max(0, Date.now() - vm.startedAtMs)),
    ]);
    if (vms.length > 0) await out.table(["NAME", "IMAGE", "STATE", "CPUS", "MEMORY", "UPTIME"], rows);
  },
});

const CAUSES = { "disk-full": "disk full", "disk-failed": "disk failed", vmm: "by its VMM" } as const;

function describePhase(vm: Vm): string {
  if (vm.recovering === true) return `${vm.phase}, recovering`;
  if (vm.pauseCause !== undefined) return `${vm.phase}, ${CAUSES[vm.pauseCause]}`;
  return vm.responsive === false ? `${vm.phase}, silent` : vm.phase;
}
