import { formatDurationRounded } from "#base/durations.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["image", "ls"],
  summary: "List cached images",
  args: [],
  flags: { quiet: { short: "q", help: "Only print names" } },
  examples: [
    ["hearth image ls", "List all images, with the number of VMs that use them"],
    ["hearth image ls -q", "Only print names"],
  ],
  async run({ flags, out, hearth }) {
    const images = await (await hearth()).images.list();
    if (out.wantsJson) return out.json(images);
    if (flags.quiet) {
      for (const image of images) out.line(image.ref);
      return;
    }
    if (images.length === 0)
      return out.note("There are no images yet. `hearth image build debian` builds one.");
    const rows = images.map((image) => [
      image.ref,
      image.digest.slice(7, 19),
      formatSizeRounded(image.allocatedBytes),
      image.kernel,
      `${formatDurationRounded(Math.max(0, Date.now() - image.builtAtMs))} ago`,
      String(image.usedBy.length),
    ]);
    await out.table(["IMAGE", "DIGEST", "SIZE", "KERNEL", "BUILT", "VMS"], rows);
  },
});
