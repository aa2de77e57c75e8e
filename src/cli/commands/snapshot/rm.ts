import { parseSnapshotName } from "#model/ids.ts";
import { command } from "#cli/command.ts";
import { eachTarget } from "#cli/each-target.ts";

export default command({
  path: ["snapshot", "rm"],
  summary: "Remove snapshots",
  about:
    "A snapshot that a VM uses is not removed. Disk data that VMs share with it stays as long as they " +
    "need it.",
  args: [{ name: "NAME", many: true, help: "Names or IDs of the snapshots", completes: "snapshot" }],
  flags: {},
  examples: [["hearth snapshot rm before-upgrade", "Remove a snapshot; its VM stays"]],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachTarget(args, parseSnapshotName, out, async (name) => {
      await client.snapshots.remove(name);
      return { result: { name, removed: true } };
    });
  },
});
