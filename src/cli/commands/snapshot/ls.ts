import { formatDurationRounded } from "#base/durations.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { parseSnapshotFilters } from "#model/snapshot-filter.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["snapshot", "ls"],
  summary: "List snapshots",
  about:
    "MEMORY is the memory size in the snapshot, or - if it has only a disk; SIZE is the disk space that " +
    "the snapshot uses. With several filters, a snapshot must have all the labels, and belong to one of " +
    "the VMs.",
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
    ["hearth snapshot ls", "List all snapshots, newest first"],
    [
      "hearth snapshot ls -q --filter label=nightly --filter vm=web",
      "Print the names of some snapshots of a VM",
    ],
  ],
  async run({ flags, out, hearth }) {
    parseSnapshotFilters(flags.filter); // Checked before hearthd is contacted or started.
    const snapshots = await (await hearth()).snapshots.list(undefined, flags.filter);
    if (out.wantsJson) return out.json(snapshots);
    if (flags.quiet) {
      for (const { name, id } of snapshots) out.line(name ?? id);
      return;
    }
    if (snapshots.length === 0 && flags.filter.length > 0) return out.note("No snapshot matches the filter.");
    if (snapshots.length === 0)
      return out.note("There are no snapshots. `hearth snapshot create VM` creates one.");
    const rows = snapshots.map((snapshot) => [
      snapshot.name ?? snapshot.id,
      snapshot.vm,
      snapshot.image,
      snapshot.hasMemory ? formatSizeRounded(snapshot.memoryBytes) : "-",
      formatSizeRounded(snapshot.allocatedBytes),
      `${formatDurationRounded(Math.max(0, Date.now() - snapshot.createdAtMs))} ago`,
      snapshot.usedBy.length === 0 ? "-" : snapshot.usedBy.join(", "),
    ]);
    await out.table(["SNAPSHOT", "VM", "IMAGE", "MEMORY", "SIZE", "CREATED", "USED BY"], rows);
  },
});
