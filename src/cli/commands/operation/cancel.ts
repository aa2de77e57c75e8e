import { command } from "#cli/command.ts";
import { eachTarget } from "#cli/each-target.ts";
import { parseOperationId } from "#model/ids.ts";

export default command({
  path: ["operation", "cancel"],
  summary: "Cancel operations and undo their changes",
  about:
    "Waits until the operation has ended, which may take a moment. A stop, restart or kill that has begun " +
    "cannot be cancelled. An operation that has ended is left as it is.",
  args: [{ name: "ID", many: true, help: "IDs of the operations", completes: "operation" }],
  flags: {},
  examples: [
    ["hearth operation cancel op-0123456789ab", "Cancel an operation, as Ctrl-C in its terminal does"],
  ],
  async run({ args, out, hearth }) {
    const { operations } = await hearth();
    return eachTarget(args, parseOperationId, out, async (id) => {
      await operations.cancel(id);
      const { state, ...rest } = await operations.wait(id);
      const note = state === "cancelled" ? undefined : `${id} had already ended: ${state}.`;
      return { result: { ...rest, state }, note };
    });
  },
});
