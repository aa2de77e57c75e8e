import { command } from "#cli/command.ts";

export default command({
  path: ["daemon", "start"],
  summary: "Start hearthd",
  about: "Commands that need hearthd start it by themselves.",
  args: [],
  flags: {},
  examples: [["hearth daemon start", "Start hearthd and wait until it answers"]],
  async run({ out, hearth }) {
    const status = await (await hearth()).daemon.status();
    if (out.wantsJson) return out.json(status);
    out.line(`hearthd ${status.version} is running, pid ${status.pid}`);
  },
});
