import { command } from "#cli/command.ts";

export default command({
  path: ["daemon", "start"],
  summary: "Start hearthd, if it does not run",
  about: "Every command that needs it does this by itself.",
  args: [],
  flags: {},
  examples: [["hearth daemon start", "Back when it answers"]],
  async run({ out, hearth }) {
    const status = await (await hearth()).daemon.status();
    if (out.wantsJson) return out.json(status);
    out.line(`hearthd ${status.version} runs, pid ${status.pid}`);
  },
});
