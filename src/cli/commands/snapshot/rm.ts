import { parseSnapshotName } from "#model/ids.ts";
import { command } from "#cli/command.ts";
import { eachTarget } from "#cli/each-target.ts";

export default command({
  path: ["snapshot", "rm"],
  summary: "Remove snapshots",
  about: "One that a VM uses is not removed; what VMs share of its disk stays as long as they do.",
  args: [{ name: "NAME", many: true, help: "Names or ids", completes: "snapshot" }],
  flags: {},
  examples: [["hearth snapshot rm before-upgrade", "Its VM stays as it is"]],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachTarget(args, parseSnapshotName, out, async (name) => {
      await client.snapshots.remove(name);
      return { result: { name, removed: true } };
    });
  },
});
