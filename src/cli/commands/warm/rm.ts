import { HearthError } from "#base/error.ts";
import { parseSnapshotId } from "#model/ids.ts";
import { command } from "#cli/command.ts";
import { eachTarget } from "#cli/each-target.ts";

export default command({
  path: ["warm", "rm"],
  summary: "Remove warm templates",
  about: "One that a VM uses is not removed. hearthd makes it again when a VM of its shape boots.",
  args: [{ name: "ID", many: true, help: "As `hearth warm ls` shows them", completes: "warm" }],
  flags: {},
  examples: [["hearth warm rm sn-abcdefghijkl", "The next VM of its shape boots"]],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachTarget(args, parseTemplateId, out, async (id) => {
      await client.warm.remove(id);
      return { result: { name: id, removed: true } };
    });
  },
});

/** A template has no name. */
function parseTemplateId(text: string): string {
  try {
    return parseSnapshotId(text);
  } catch {
    const shown = JSON.stringify(text.slice(0, 80));
    const hint = "`hearth warm ls` shows the templates and their ids.";
    throw new HearthError("input.invalid", `${shown} is not a template's id.`, { hint });
  }
}
