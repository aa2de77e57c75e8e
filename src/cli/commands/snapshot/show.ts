import type { Snapshot } from "#api/wire.ts";
import { formatSize, formatSizeRounded } from "#base/sizes.ts";
import { parseSnapshotName } from "#model/ids.ts";
import { formatLabels } from "#model/labels.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["snapshot", "show"],
  summary: "Show the details of a snapshot",
  args: [{ name: "NAME", help: "Name or ID of the snapshot", completes: "snapshot" }],
  flags: {},
  examples: [["hearth snapshot show before-upgrade", "Show its files, its VMM, and the VMs that use it"]],
  async run({ args, out, hearth }) {
    const snapshot = await (await hearth()).snapshots.show(parseSnapshotName(args[0] ?? ""));
    if (out.wantsJson) return out.json(snapshot);
    out.fields([...story(snapshot), ...machine(snapshot), ...files(snapshot)]);
  },
});

type Pair = readonly [string, string | undefined];

function story(snapshot: Snapshot): readonly Pair[] {
  return [
    ["snapshot", snapshot.name],
    ["id", snapshot.id],
    ["owner", snapshot.owner],
    ...formatLabels(snapshot.labels).map((label): Pair => ["label", label]),
    ["vm", snapshot.vm],
    ["contains", snapshot.hasMemory ? "disk and memory" : "disk"],
    ["created", new Date(snapshot.createdAtMs).toISOString()],
    ["last used", new Date(snapshot.lastUsedAtMs).toISOString()],
    ["used by", snapshot.usedBy.length === 0 ? "no VM" : snapshot.usedBy.join(", ")],
  ];
}

/** Returns the settings of a VM that is created from this snapshot. */
function machine(snapshot: Snapshot): readonly Pair[] {
  return [
    ["image", `${snapshot.image} (${snapshot.imageDigest})`],
    ["cpus", String(snapshot.cpus)],
    ["memory", formatSize(snapshot.memoryBytes)],
    ["disk", formatSize(snapshot.diskBytes)],
    ["network", snapshot.network],
    ["init", snapshot.init],
    ["driver", snapshot.driver],
    ["vmm", snapshot.vmm],
  ];
}

function files({ allocatedBytes, parts }: Snapshot): readonly Pair[] {
  return [
    ["on disk", formatSizeRounded(allocatedBytes)],
    ...parts.map(({ name, sizeBytes, sha256 }): Pair => [
      "file",
      `${name}  ${formatSizeRounded(sizeBytes)}  ${sha256}`,
    ]),
  ];
}
