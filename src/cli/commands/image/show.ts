import { formatSizeRounded } from "#base/sizes.ts";
import { parseImageDigest } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["image", "show"],
  summary: "Show the details of an image",
  args: [{ name: "IMAGE", help: "Name or digest of the image", completes: "image" }],
  flags: {},
  examples: [["hearth image show debian", "Show its files, their checksums, and the VMs that use it"]],
  async run({ args, out, hearth }) {
    const [text = ""] = args;
    const ref = text.startsWith("sha256:") ? parseImageDigest(text) : parseImageRef(text);
    const image = await (await hearth()).images.show(ref);
    if (out.wantsJson) return out.json(image);
    out.fields([
      ["image", image.ref],
      ["digest", image.digest],
      ["kernel", image.kernel],
      ["init", image.inits.join(", ")],
      ["size", `${formatSizeRounded(image.sizeBytes)}, ${formatSizeRounded(image.allocatedBytes)} on disk`],
      ["built", new Date(image.builtAtMs).toISOString()],
      ["used by", image.usedBy.length === 0 ? "no VM" : image.usedBy.join(", ")],
      ...image.files.map(
        ({ name, sha256, sizeBytes }) =>
          ["file", `${name}  ${formatSizeRounded(sizeBytes)}  ${sha256}`] as const,
      ),
    ]);
  },
});
