import { HearthError } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { untilGone } from "#cli/until-gone.ts";

export default command({
  path: ["daemon", "stop"],
  summary: "Stop hearthd; VMs keep running",
  about:
    "Operations in progress are cancelled, and VMs of `hearth run` without -d end. The next command that " +
    "needs hearthd starts it again, and it takes over the running VMs. This is also how to upgrade " +
    "hearthd.",
  args: [],
  flags: {},
  examples: [["hearth daemon stop", "Stop hearthd and wait until it has ended"]],
  async run({ out, hearth }) {
    try {
      const client = await hearth({ autostart: false });
      const { pid } = await client.daemon.status();
      await client.daemon.stop();
      await untilGone(pid);
      if (out.wantsJson) return out.json({ stopped: true, pid });
      out.note("hearthd has stopped.");
    } catch (error) {
      if (!(error instanceof HearthError) || error.code !== "daemon.unreachable") throw error;
      if (out.wantsJson) return out.json({ stopped: false });
      out.note("hearthd is not running.");
    }
  },
});
