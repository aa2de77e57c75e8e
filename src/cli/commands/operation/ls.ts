import { formatDurationRounded } from "#base/durations.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["operation", "ls"],
  summary: "List operations: what hearthd does, or has done",
  about:
    "An operation is a request that changes something, or a command that runs. Shown are those under way, and detached " +
    "ones that have ended; --all shows all that hearthd still knows. It forgets old ones, and all when it ends.",
  args: [],
  flags: {
    all: { short: "a", help: "Also those that have ended" },
    quiet: { short: "q", help: "Print ids alone" },
  },
  examples: [
    ["hearth operation ls", "What is under way"],
    ["hearth operation ls -a", "With what has ended"],
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
    if (listed.length === 0) return out.note("Nothing is under way.");
    const rows = listed.map(({ id, state, request, startedAtMs, endedAtMs, progress, error }) => [
      id,
      state,
      request,
      formatDurationRounded(Math.max(0, (endedAtMs ?? Date.now()) - startedAtMs)),
      error?.code ?? (endedAtMs === undefined && progress ? `${progress.stage}: ${progress.text}` : "-"),
    ]);
    out.table(["OPERATION", "STATE", "REQUEST", "TIME", "DETAIL"], rows);
  },
});
