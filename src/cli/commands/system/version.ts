import { hearthVersion } from "#base/version.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["version"],
  summary: "Print the version of Hearth",
  args: [],
  flags: {},
  examples: [["hearth version", "`hearth daemon status` prints the version of hearthd"]],
  run({ out }) {
    const version = hearthVersion();
    const { version: node, platform, arch } = process;
    if (out.wantsJson) out.json({ version, node, platform, arch });
    else out.line(`hearth ${version} (Node ${node.slice(1)}, ${platform} ${arch})`);
    return Promise.resolve();
  },
});
