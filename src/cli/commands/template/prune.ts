import { command } from "#cli/command.ts";

export default command({
  path: ["template", "prune"],
  summary: "Remove all unused templates",
  about:
    "Does not ask for confirmation, because hearthd builds templates again when VMs boot. Prints the " +
    "number of removed templates.",
  args: [],
  flags: {},
  examples: [["hearth template prune", "Free the disk space of unused templates"]],
  async run({ out, hearth }) {
    const pruned = await (await hearth()).templates.prune();
    if (out.wantsJson) return out.json(pruned);
    out.line(String(pruned.removed));
    out.note(pruned.removed === 1 ? "Removed 1 template." : `Removed ${pruned.removed} templates.`);
  },
});
