import { formatSizeRounded } from "#base/sizes.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["image", "build"],
  summary: "Build an image",
  about: "`run` and `create` do this by themselves at the first use. One that is there is left as it is.",
  args: [{ name: "IMAGE", help: "Such as debian or debian:trixie", completes: "image" }],
  flags: { fresh: { help: "Build it again; VMs keep what they were made of" } },
  examples: [
    ["hearth image build debian", "Debian's stable release"],
    ["hearth image build --fresh debian:trixie", "With the newest packages"],
  ],
  async run({ args, flags, out, hearth }) {
    const ref = parseImageRef(args[0] ?? "");
    const image = await (
      await hearth()
    ).images.build(ref, { fresh: flags.fresh, onProgress: out.onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(image);
    out.line(image.ref);
    out.note(`${formatSizeRounded(image.allocatedBytes)} on disk. Next: hearth run ${image.ref}`);
  },
});
