import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";
import { IMAGE_ARGUMENT } from "#cli/image-argument.ts";
import { parseShapeFlags, SHAPE_FLAGS } from "#cli/vm-flags.ts";

export default command({
  path: ["template", "build"],
  summary: "Build a template before it is needed",
  about:
    "VMs with the same image and the same values of these flags start from the template; the --no-* flags " +
    "may differ. VMs with volumes do not use it. Prints the ID of the template, also if it exists already.",
  args: [IMAGE_ARGUMENT],
  flags: SHAPE_FLAGS,
  examples: [
    ["hearth template build debian", "Then: hearth run debian"],
    [
      "hearth template build --memory 512M --network nat debian",
      "Build a template for VMs with this memory and network",
    ],
  ],
  async run({ args, flags, out, hearth }) {
    const like = parseShapeFlags(args[0] ?? "", flags);
    const made = await (await hearth()).templates.build(like, { onProgress: out.onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(made);
    out.line(made.id);
    out.note(`${formatSizeRounded(made.allocatedBytes)} on disk. Next: hearth run ${made.image}`);
  },
});
