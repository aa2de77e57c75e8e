import { formatDurationRounded } from "#base/durations.ts";
import { HearthError } from "#base/error.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["daemon", "status"],
  summary: "Show the status of hearthd",
  about: "Does not start hearthd. The exit code is 1 if hearthd is not running.",
  args: [],
  flags: {},
  examples: [
    ["hearth daemon status", "Print the status as text"],
    ["hearth daemon status --json", "Print JSON for programs"],
  ],
  async run({ out, hearth }) {
    try {
      const status = await (await hearth({ autostart: false })).daemon.status();
      if (out.wantsJson) return out.json({ alive: true, ...status });
      out.fields([
        ["hearthd", `${status.version}, pid ${status.pid}`],
        ["since", formatDurationRounded(Math.max(0, Date.now() - status.startedAtMs))],
        ["memory", formatSizeRounded(status.rssBytes)],
        ["VMs", `${status.vms}, ${status.running} running`],
        ["config", status.dirs.config],
        ["state", status.dirs.state],
        ["cache", status.dirs.cache],
        ["run", status.dirs.run],
      ]);
      return;
    } catch (error) {
      if (!(error instanceof HearthError) || error.code !== "daemon.unreachable") throw error;
      if (out.wantsJson) out.json({ alive: false });
      else out.line("hearthd is not running. `hearth daemon start` starts it.");
      return 1;
    }
  },
});
