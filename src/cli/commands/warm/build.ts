import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";
import { parseShapeFlags, SHAPE_FLAGS } from "#cli/vm-flags.ts";

export default command({
  path: ["warm", "build"],
  summary: "Make a warm template before it is needed",
  about:
    "VMs start from it that are made with the same image and the same of these flags; anything else boots first. " +
    "Prints the template's id, also of one that was there.",
  args: [{ name: "IMAGE", help: "Such as debian or debian:trixie", completes: "image" }],
  flags: SHAPE_FLAGS,
  examples: [
    ["hearth warm build debian", "Then: hearth run debian"],
    ["hearth warm build --memory 512M --network user debian", "For VMs with just that"],
  ],
  async run({ args, flags, out, hearth }) {
    const like = parseShapeFlags(args[0] ?? "", flags);
    const made = await (await hearth()).warm.build(like, { onProgress: out.onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(made);
    out.line(made.id);
    out.note(`${formatSizeRounded(made.allocatedBytes)} on disk. Next: hearth run ${made.image}`);
  },
});
