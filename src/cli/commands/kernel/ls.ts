import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["kernel", "ls"],
  summary: "List the kernels in the cache",
  args: [],
  flags: {},
  examples: [["hearth kernel ls", "`hearth run --kernel RELEASE` takes one of them"]],
  async run({ out, hearth }) {
    const kernels = await (await hearth()).kernels.list();
    if (out.wantsJson) return out.json(kernels);
    if (kernels.length === 0) return out.note("There are no kernels yet; images bring them.");
    const rows = kernels.map((kernel) => [
      kernel.release,
      formatSizeRounded(kernel.sizeBytes),
      kernel.usedBy.join(", ") || "-",
    ]);
    out.table(["RELEASE", "SIZE", "USED BY"], rows);
  },
});
