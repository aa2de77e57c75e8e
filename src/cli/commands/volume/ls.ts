import { formatDurationRounded } from "#base/durations.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["volume", "ls"],
  summary: "List volumes",
  args: [],
  flags: { quiet: { short: "q", help: "Print names alone" } },
  examples: [
    ["hearth volume ls", "With what they take, and the VMs that name them"],
    ["hearth volume ls -q", "Names alone"],
  ],
  async run({ flags, out, hearth }) {
    const volumes = await (await hearth()).volumes.list();
    if (out.wantsJson) return out.json(volumes);
    if (flags.quiet) {
      for (const volume of volumes) out.line(volume.name);
      return;
    }
    if (volumes.length === 0)
      return out.note("There are no volumes. `hearth volume create data --size 4G` makes one.");
    const rows = volumes.map((volume) => [
      volume.name,
      formatSizeRounded(volume.allocatedBytes),
      formatSizeRounded(volume.sizeBytes),
      `${formatDurationRounded(Math.max(0, Date.now() - volume.createdAtMs))} ago`,
      volume.usedBy.length === 0 ? "-" : volume.usedBy.join(", "),
    ]);
    out.table(["VOLUME", "USED", "SIZE", "CREATED", "VMS"], rows);
  },
});
