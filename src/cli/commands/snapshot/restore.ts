import { parseSnapshotName } from "#model/ids.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["snapshot", "restore"],
  summary: "Restore a VM to a snapshot",
  about:
    "Everything that the VM has written since the snapshot is lost, and its sizes become those of the " +
    "snapshot. The VM may be running or stopped. If the snapshot has memory, the VM continues from it; " +
    "otherwise the VM boots if it was running, and stays stopped if not. The snapshot stays. Prints the " +
    "name of the VM.",
  args: [{ name: "NAME", help: "Name or ID of the snapshot", completes: "snapshot" }],
  flags: {},
  examples: [["hearth snapshot restore before-upgrade", "Return to the snapshot; this can be repeated"]],
  async run({ args, out, hearth }) {
    const name = parseSnapshotName(args[0] ?? "");
    const vm = await (await hearth()).snapshots.restore(name, { onProgress: out.onProgress });
    out.clearProgress();
    const shown = await vm.show();
    if (out.wantsJson) return out.json(shown);
    out.line(shown.name);
    out.note(`Next: hearth ${shown.phase === "running" ? "shell" : "start"} ${shown.name}`);
  },
});
