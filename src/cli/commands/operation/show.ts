import { formatDurationRounded } from "#base/durations.ts";
import { command } from "#cli/command.ts";
import { parseOperationId } from "#model/ids.ts";

export default command({
  path: ["operation", "show"],
  summary: "Show the details of an operation",
  about:
    "With --json, includes the result of a detached operation: the response that the request would have " +
    "had.",
  args: [{ name: "ID", help: "ID of the operation", completes: "operation" }],
  flags: {},
  examples: [
    ["hearth operation show op-0123456789ab", "Show its state and last progress"],
    ["hearth operation show op-0123456789ab --json", "Also show its result"],
  ],
  async run({ args, out, hearth }) {
    const operation = await (await hearth()).operations.show(parseOperationId(args[0] ?? ""));
    if (out.wantsJson) return out.json(operation);
    const { id, state, request, principal, detached, startedAtMs, endedAtMs, progress, error } = operation;
    const tookMs = Math.max(0, (endedAtMs ?? Date.now()) - startedAtMs);
    out.fields([
      ["operation", id],
      ["state", state],
      ["request", request],
      ["asked by", principal],
      ["detached", detached ? "yes" : "no"],
      ["started", new Date(startedAtMs).toISOString()],
      [endedAtMs === undefined ? "running for" : "took", formatDurationRounded(tookMs)],
      ["progress", progress && `${progress.stage}: ${progress.text}`],
      ["error", error && `${error.message} (${error.code})`],
      ["hint", error?.hint],
    ]);
  },
});
