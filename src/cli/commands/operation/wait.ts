import type { ErrorBody } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { eachTarget } from "#cli/each-target.ts";
import { parseOperationId } from "#model/ids.ts";
import { errorFromBody } from "#sdk/transport.ts";

export default command({
  path: ["operation", "wait"],
  summary: "Wait until operations have ended",
  about: "Fails as the operation has failed. Interrupting it, as with Ctrl-C, does not touch the operation.",
  args: [{ name: "ID", many: true, completes: "operation" }],
  flags: {},
  examples: [
    ["hearth operation wait op-0123456789ab", "Back when it has ended"],
    ["hearth operation wait $(hearth start --detach web)", "As `hearth start web`"],
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
