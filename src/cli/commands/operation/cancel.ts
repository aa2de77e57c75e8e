import { command } from "#cli/command.ts";
import { eachTarget } from "#cli/each-target.ts";
import { parseOperationId } from "#model/ids.ts";

export default command({
  path: ["operation", "cancel"],
  summary: "Cancel operations, and undo what they have begun",
  about:
    "Back when the operation has ended, which may take a moment. A stop that has begun cannot be cancelled; an operation " +
    "that has ended is left as it is.",
  args: [{ name: "ID", many: true, completes: "operation" }],
  flags: {},
  examples: [["hearth operation cancel op-0123456789ab", "As if it had been interrupted"]],
  async run({ args, out, hearth }) {
    const { operations } = await hearth();
    return eachTarget(args, parseOperationId, out, async (id) => {
      await operations.cancel(id);
      const { state, ...rest } = await operations.wait(id);
      const note = state === "cancelled" ? undefined : `${id} had ended already: ${state}.`;
      return { result: { ...rest, state }, note };
    });
  },
});
