import { resolve } from "node:path";
import { formatSizeRounded, parseSize } from "#base/sizes.ts";
import { parseVolumeName } from "#model/ids.ts";
import { parseLabels } from "#model/labels.ts";
import { LIMITS } from "#model/limits.ts";
import { command } from "#cli/command.ts";
import { DISK_RANGE, VOLUME_LABEL_FLAG } from "#cli/vm-flags.ts";

export default command({
  path: ["volume", "create"],
  summary: "Create a volume: a disk that outlives VMs",
  about:
    "The disk is sparse: it uses only the space of the data written to it. With --from, the volume starts " +
    "with a copy of a directory, with its modes, owners and links. hearthd reads the directory with its " +
    "own permissions.",
  args: [{ name: "NAME", help: "Name of the volume" }],
  flags: {
    ...VOLUME_LABEL_FLAG,
    size: {
      value: "SIZE",
      default: "content of --from plus a quarter, at least 1G more",
      help: `Size of the disk, ${DISK_RANGE}; required without --from`,
    },
    from: { value: "DIR", help: "Copy the content of this directory into the volume", completes: "path" },
  },
  examples: [
    ["hearth volume create data --size 4G", "Then: hearth run --volume data:/data debian"],
    ["hearth volume create --label team=web logs --size 1G", "Then: hearth volume ls --filter label=team"],
    ["hearth volume create site --from ./public", "Create a volume with a copy of a directory of the host"],
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
