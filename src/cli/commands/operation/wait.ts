import type { ErrorBody } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { eachTarget } from "#cli/each-target.ts";
import { parseOperationId } from "#model/ids.ts";
import { errorFromBody } from "#sdk/transport.ts";

export default command({
  path: ["operation", "wait"],
  summary: "Wait until operations end",
  about:
    "Fails with the error of the operation if that has failed. Ctrl-C stops waiting, and does not cancel " +
    "the operation.",
  args: [{ name: "ID", many: true, help: "IDs of the operations", completes: "operation" }],
  flags: {},
  examples: [
    ["hearth operation wait op-0123456789ab", "Wait for one operation"],
    ["hearth operation wait $(hearth start --detach web)", "Do the same as `hearth start web`"],
  ],
  async run({ args, out, hearth }) {
    const { operations } = await hearth();
    return eachTarget(args, parseOperationId, out, async (id) => {
      const operation = await operations.wait(id, { onProgress: out.onProgress });
      if (operation.error !== undefined) throw errorFromBody(operation.error as ErrorBody);
      return { result: operation };
    });
  },
});
