import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["kernel", "ls"],
  summary: "List cached kernels",
  args: [],
  flags: {},
  examples: [["hearth kernel ls", "List kernels for `hearth run --kernel RELEASE`"]],
  async run({ out, hearth }) {
    const kernels = await (await hearth()).kernels.list();
    if (out.wantsJson) return out.json(kernels);
    if (kernels.length === 0)
      return out.note("There are no kernels yet; `hearth image build debian` installs one.");
    const rows = kernels.map((kernel) => [
      kernel.release,
      formatSizeRounded(kernel.sizeBytes),
      kernel.usedBy.join(", ") || "-",
    ]);
    await out.table(["RELEASE", "SIZE", "USED BY"], rows);
  },
});
