import { resolve } from "node:path";
import { formatSizeRounded, parseSize } from "#base/sizes.ts";
import { parseVolumeName } from "#model/ids.ts";
import { parseLabels } from "#model/labels.ts";
import { LIMITS } from "#model/limits.ts";
import { command } from "#cli/command.ts";
import { VOLUME_LABEL_FLAG } from "#cli/vm-flags.ts";

export default command({
  path: ["volume", "create"],
  summary: "Make a volume: a disk that outlives VMs",
  about:
    "The disk is sparse: it takes what is written. With --from it begins with a copy of what is in the folder: " +
    "modes, owners and links as they are there. hearthd reads the folder, with its own rights.",
  args: [{ name: "NAME" }],
  flags: {
    ...VOLUME_LABEL_FLAG,
    size: { value: "SIZE", help: "Such as 4G; with --from, its content and room to work" },
    from: { value: "FOLDER", help: "Begin with what is in this folder", completes: "path" },
  },
  examples: [
    ["hearth volume create data --size 4G", "Then: hearth run --volume data:/data debian"],
    ["hearth volume create --label team=web logs --size 1G", "Then: hearth volume ls --filter label=team"],
    ["hearth volume create site --from ./public", "A copy of a folder of the host"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const name = parseVolumeName(args[0] ?? "");
    const range = { minBytes: LIMITS.diskMinBytes, maxBytes: LIMITS.diskMaxBytes };
    const request = {
      name,
      ...(flags.size !== undefined && { sizeBytes: parseSize("size", flags.size, range) }),
      ...(flags.from !== undefined && { from: resolve(io.cwd, flags.from) }),
      ...(flags.label.length > 0 && { labels: parseLabels(flags.label) }),
    };
    const volume = await (await hearth()).volumes.create(request, { onProgress: out.onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(volume);
    out.line(volume.name);
    const size = formatSizeRounded(volume.sizeBytes);
    out.note(`${size} at most. Next: hearth run --volume ${volume.name}:/data debian`);
  },
});
