import { formatSize, formatSizeRounded } from "#base/sizes.ts";
import { parseVolumeName } from "#model/ids.ts";
import { formatLabels } from "#model/labels.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["volume", "show"],
  summary: "Show the details of a volume",
  args: [{ name: "VOLUME", help: "Name of the volume", completes: "volume" }],
  flags: {},
  examples: [["hearth volume show data", "Show its file, and the VMs that use it"]],
  async run({ args, out, hearth }) {
    const volume = await (await hearth()).volumes.show(parseVolumeName(args[0] ?? ""));
    if (out.wantsJson) return out.json(volume);
    out.fields([
      ["volume", volume.name],
      ["owner", volume.owner],
      ...formatLabels(volume.labels).map((label) => ["label", label] as const),
      ["size", `${formatSize(volume.sizeBytes)}, ${formatSizeRounded(volume.allocatedBytes)} on disk`],
      ["created", new Date(volume.createdAtMs).toISOString()],
      ["used by", volume.usedBy.length === 0 ? "no VM" : volume.usedBy.join(", ")],
      ["file", volume.path],
    ]);
  },
});
