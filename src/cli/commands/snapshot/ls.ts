import { formatDurationRounded } from "#base/durations.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["snapshot", "ls"],
  summary: "List snapshots",
  about: "MEMORY is what was saved of it, and - of the disk alone; SIZE what the snapshot takes on the disk.",
  args: [],
  flags: { quiet: { short: "q", help: "Print names alone" } },
  examples: [
    ["hearth snapshot ls", "Newest first, with the VMs that use them"],
    ["hearth snapshot ls -q", "Names alone"],
  ],
  async run({ flags, out, hearth }) {
    const snapshots = await (await hearth()).snapshots.list();
    if (out.wantsJson) return out.json(snapshots);
    if (flags.quiet) {
      for (const { name, id } of snapshots) out.line(name ?? id);
      return;
    }
    if (snapshots.length === 0)
      return out.note("There are no snapshots. `hearth snapshot create VM` makes one.");
    const rows = snapshots.map((snapshot) => [
      snapshot.name ?? snapshot.id,
      snapshot.vm,
      snapshot.image,
      snapshot.hasMemory ? formatSizeRounded(snapshot.memoryBytes) : "-",
      formatSizeRounded(snapshot.allocatedBytes),
      `${formatDurationRounded(Math.max(0, Date.now() - snapshot.createdAtMs))} ago`,
      snapshot.usedBy.length === 0 ? "-" : snapshot.usedBy.join(", "),
    ]);
    out.table(["SNAPSHOT", "VM", "IMAGE", "MEMORY", "SIZE", "CREATED", "USED BY"], rows);
  },
});
