import { formatDurationRounded } from "#base/durations.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { parseVolumeFilters } from "#model/volume-filter.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["volume", "ls"],
  summary: "List volumes",
  about: "With several filters, a volume must have all the labels, and be used by one of the VMs.",
  args: [],
  flags: {
    filter: {
      short: "f",
      value: "FILTER",
      many: true,
      help: "label=KEY, label=KEY=VALUE, vm=NAME or name=PART",
    },
    quiet: { short: "q", help: "Only print names" },
  },
  examples: [
    ["hearth volume ls", "List all volumes, with the VMs that use them"],
    ["hearth volume ls -q --filter label=team=web", "Print the names of the volumes with a label"],
  ],
  async run({ flags, out, hearth }) {
    parseVolumeFilters(flags.filter); // Checked before hearthd is contacted or started.
    const volumes = await (await hearth()).volumes.list(undefined, flags.filter);
    if (out.wantsJson) return out.json(volumes);
    if (flags.quiet) {
      for (const volume of volumes) out.line(volume.name);
      return;
    }
    if (volumes.length === 0 && flags.filter.length > 0) return out.note("No volume matches the filter.");
    if (volumes.length === 0)
      return out.note("There are no volumes. `hearth volume create data --size 4G` creates one.");
    const rows = volumes.map((volume) => [
      volume.name,
      formatSizeRounded(volume.allocatedBytes),
      formatSizeRounded(volume.sizeBytes),
      `${formatDurationRounded(Math.max(0, Date.now() - volume.createdAtMs))} ago`,
      volume.usedBy.length === 0 ? "-" : volume.usedBy.join(", "),
    ]);
    await out.table(["VOLUME", "USED", "SIZE", "CREATED", "VMS"], rows);
  },
});
