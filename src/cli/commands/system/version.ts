import { hearthVersion } from "#base/version.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["version"],
  summary: "Print Hearth's version",
  args: [],
  flags: {},
  examples: [["hearth version", "Of this program; `hearth daemon status` tells hearthd's"]],
  run({ out }) {
    const version = hearthVersion();
    const { version: node, platform, arch } = process;
    if (out.wantsJson) out.json({ version, node, platform, arch });
    else out.line(`hearth ${version} (Node ${node.slice(1)}, ${platform} ${arch})`);
    return Promise.resolve();
  },
});
