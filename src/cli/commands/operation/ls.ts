import { formatDurationRounded } from "#base/durations.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["operation", "ls"],
  summary: "List operations: requests that hearthd works on",
  about:
    "An operation is a request that changes something, or a running command. Lists operations in " +
    "progress, and detached ones that have ended; --all lists all that hearthd remembers. hearthd removes " +
    "old operations from the list, and all when it stops.",
  args: [],
  flags: {
    all: { short: "a", help: "Also list operations that have ended" },
    quiet: { short: "q", help: "Only print IDs" },
  },
  examples: [
    ["hearth operation ls", "List operations in progress"],
    ["hearth operation ls -a", "Also list operations that have ended"],
  ],
  async run({ flags, out, hearth }) {
    const known = await (await hearth()).operations.list();
    const listed = known.filter(
      ({ endedAtMs, detached }) => flags.all || detached || endedAtMs === undefined,
    );
    if (out.wantsJson) return out.json(listed);
    if (flags.quiet) {
      for (const { id } of listed) out.line(id);
      return;
    }
    if (listed.length === 0) return out.note("There are no operations in progress.");
    const rows = listed.map(({ id, state, request, startedAtMs, endedAtMs, progress, error }) => [
      id,
      state,
      request,
      formatDurationRounded(Math.max(0, (endedAtMs ?? Date.now()) - startedAtMs)),
      error?.code ?? (endedAtMs === undefined && progress ? `${progress.stage}: ${progress.text}` : "-"),
    ]);
    await out.table(["OPERATION", "STATE", "REQUEST", "TIME", "DETAIL"], rows);
  },
});
