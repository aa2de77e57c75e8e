import { parseSnapshotName } from "#model/ids.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["snapshot", "restore"],
  summary: "Put a VM back to where it was saved",
  about:
    "The VM that was saved, whether it runs or not: what it has done since is gone, and its sizes are the snapshot's. It " +
    "goes on if its memory was saved; otherwise it boots if it ran, and is left alone if not. The snapshot stays. " +
    "Prints the VM's name.",
  args: [{ name: "NAME", help: "Name or id", completes: "snapshot" }],
  flags: {},
  examples: [
    ["hearth snapshot restore before-upgrade", "Its VM is where it was; another try is one more restore"],
  ],
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
