import { homedir } from "node:os";
import { HearthError } from "#base/error.ts";
import { hearthDirs } from "#base/hearth-dirs.ts";
import { command } from "#cli/command.ts";
import { openDaemonLog } from "#cli/daemon-log.ts";
import { parseLineCount, printLog } from "#cli/log-text.ts";

export default command({
  path: ["daemon", "logs"],
  summary: "Print the log of hearthd",
  about:
    "The log has one line of JSON per event. The command reads the log file, so hearthd does not have to " +
    "run.",
  args: [],
  flags: {
    follow: { short: "f", help: "Follow the log" },
    lines: { short: "n", value: "NUMBER", default: "all", help: "Only print the last lines" },
  },
  examples: [
    ["hearth daemon logs -n 50", "Print the last 50 lines"],
    ["hearth daemon logs | grep op-1a2b3c4d5e6f", "Find the operation that an error names"],
  ],
  async run({ flags, io, out }) {
    const lines = parseLineCount(flags.lines);
    const dirs = hearthDirs(io.env, io.env["HOME"] ?? homedir());
    const log = await openDaemonLog(dirs, { lines, follow: flags.follow });
    if (log === undefined) {
      throw new HearthError("file.not_found", "There is no log of hearthd yet.", {
        hint: "`hearth daemon start` starts it.",
      });
    }
    await printLog(log, io, out);
  },
});
