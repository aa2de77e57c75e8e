import { formatSizeRounded } from "#base/sizes.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { command } from "#cli/command.ts";
import { IMAGE_ARGUMENT } from "#cli/image-argument.ts";

export default command({
  path: ["image", "build"],
  summary: "Build an image",
  about:
    "`run` and `create` build a missing image by themselves. An image in the cache is left as it is. " +
    "Ctrl-C cancels the build; with --detach, hearthd continues in the background and the operation ID is " +
    "printed.",
  args: [IMAGE_ARGUMENT],
  flags: {
    fresh: { help: "Build the image again; existing VMs keep the old one" },
    detach: { help: "Print the operation ID and exit, without waiting" },
  },
  examples: [
    ["hearth image build debian", "Build the default Debian release"],
    ["hearth image build --fresh debian:trixie", "Build again, with the newest packages"],
    [
      "hearth image build --detach debian",
      "Build in the background; `hearth operation wait ID` waits for it",
    ],
  ],
  async run({ args, flags, out, hearth }) {
    const ref = parseImageRef(args[0] ?? "");
    const { images } = await hearth();
    const { fresh } = flags;
    if (flags.detach) {
      const operation = await images.build(ref, { fresh, detach: true });
      return out.wantsJson ? out.json(operation) : out.line(operation.id);
    }
    const image = await images.build(ref, { fresh, onProgress: out.onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(image);
    out.line(image.ref);
    out.note(`${formatSizeRounded(image.allocatedBytes)} on disk. Next: hearth run ${image.ref}`);
  },
});
