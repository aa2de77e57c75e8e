import { formatSizeRounded } from "#base/sizes.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["image", "build"],
  summary: "Build an image",
  about:
    "`run` and `create` do this by themselves at the first use. One that is there is left as it is. A build that is interrupted, as " +
    "with Ctrl-C, is cancelled; with --detach hearthd continues by itself, and the operation's id is printed.",
  args: [{ name: "IMAGE", help: "Such as debian or debian:trixie", completes: "image" }],
  flags: {
    fresh: { help: "Build it again; VMs keep what they were made of" },
    detach: { help: "Do not wait, and print the operation's id" },
  },
  examples: [
    ["hearth image build debian", "Debian's stable release"],
    ["hearth image build --fresh debian:trixie", "With the newest packages"],
    ["hearth image build --detach debian", "Back at once; `hearth operation wait ID` waits for the image"],
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
