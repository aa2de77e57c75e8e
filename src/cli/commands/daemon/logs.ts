import { homedir } from "node:os";
import { HearthError } from "#base/error.ts";
import { hearthFolders } from "#base/folders.ts";
import { command } from "#cli/command.ts";
import { openDaemonLog } from "#cli/daemon-log.ts";
import { parseLineCount, printLog } from "#cli/log-text.ts";

export default command({
  path: ["daemon", "logs"],
  summary: "Print hearthd's log",
  about: "A line of JSON for each event. Reads the file itself, so hearthd need not run.",
  args: [],
  flags: {
    follow: { short: "f", help: "Go on with what comes" },
    lines: { short: "n", value: "NUMBER", help: "The last so many lines alone" },
  },
  examples: [
    ["hearth daemon logs -n 50", "The last lines"],
    ["hearth daemon logs | grep op-1a2b3c4d5e6f", "All about the operation that an error named"],
  ],
  async run({ flags, io, out }) {
    const lines = parseLineCount(flags.lines);
    const folders = hearthFolders(io.env, io.env["HOME"] ?? homedir());
    const log = await openDaemonLog(folders, { lines, follow: flags.follow });
    if (log === undefined) {
      throw new HearthError("file.not_found", "There is no log of hearthd yet.", {
        hint: "`hearth daemon start` starts it.",
      });
    }
    await printLog(log, io, out);
  },
});
