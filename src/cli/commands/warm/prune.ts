import { command } from "#cli/command.ts";

export default command({
  path: ["warm", "prune"],
  summary: "Remove all warm templates that no VM uses",
  about: "It does not ask: hearthd makes them again when VMs boot. Prints how many there were.",
  args: [],
  flags: {},
  examples: [["hearth warm prune", "Frees what they take on the disk"]],
  async run({ out, hearth }) {
    const pruned = await (await hearth()).warm.prune();
    if (out.wantsJson) return out.json(pruned);
    out.line(String(pruned.removed));
    out.note(pruned.removed === 1 ? "One template is removed." : `${pruned.removed} templates are removed.`);
  },
});
