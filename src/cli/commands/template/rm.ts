import { HearthError } from "#base/error.ts";
import { parseSnapshotId } from "#model/ids.ts";
import { command } from "#cli/command.ts";
import { eachTarget } from "#cli/each-target.ts";

export default command({
  path: ["template", "rm"],
  summary: "Remove templates",
  about:
    "A template that a VM uses is not removed. hearthd builds it again after the next boot of a VM like " +
    "it.",
  args: [
    {
      name: "ID",
      many: true,
      help: "IDs of the templates, from `hearth template ls`",
      completes: "template",
    },
  ],
  flags: {},
  examples: [["hearth template rm sn-abcdefghijkl", "Remove a template; the next VM like it boots"]],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachTarget(args, parseTemplateId, out, async (id) => {
      await client.templates.remove(id);
      return { result: { name: id, removed: true } };
    });
  },
});

/** Parses an id; templates have no names. */
function parseTemplateId(text: string): string {
  try {
    return parseSnapshotId(text);
  } catch {
    const shown = JSON.stringify(text.slice(0, 80));
    const hint = "`hearth template ls` lists the templates and their IDs.";
    throw new HearthError("input.invalid", `${shown} is not a template ID.`, { hint });
  }
}
