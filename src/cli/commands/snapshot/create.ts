import { parseSnapshotName, parseVmName } from "#model/ids.ts";
import { parseLabels } from "#model/labels.ts";
import { command } from "#cli/command.ts";
import { printCreatedSnapshot } from "#cli/print-created-snapshot.ts";
import { SNAPSHOT_LABEL_FLAG } from "#cli/vm-flags.ts";

export default command({
  path: ["snapshot", "create"],
  summary: "Save a VM: its disk, and its memory if it runs",
  about:
    "One that runs is halted for a moment and goes on. `hearth snapshot restore` puts it back to this moment; `hearth " +
    "create --snapshot` makes another VM of it. Disks are shared until somebody writes. Volumes are not saved: a VM " +
    "that has some can be saved with --disk-only. Prints the snapshot's name, which is made of the VM's and the time " +
    "unless it is given.",
  args: [
    { name: "VM", help: "Name or id", completes: "vm" },
    { name: "NAME", optional: true, help: "The snapshot's name" },
  ],
  flags: {
    ...SNAPSHOT_LABEL_FLAG,
    diskOnly: { help: "Leave the memory of a VM that runs out: what is made of it boots" },
  },
  examples: [
    ["hearth snapshot create web before-upgrade", "Then: hearth snapshot restore before-upgrade"],
    ["hearth snapshot create --label nightly web", "Then: hearth snapshot ls --filter label=nightly"],
    ["hearth snapshot create --disk-only web", "Smaller, and it fits every host"],
  ],
  async run({ args, flags, out, hearth }) {
    const labels = parseLabels(flags.label);
    const request = {
      vm: parseVmName(args[0] ?? ""),
      ...(args[1] !== undefined && { name: parseSnapshotName(args[1]) }),
      ...(flags.label.length > 0 && { labels }),
      ...(flags.diskOnly && { diskOnly: true }),
    };
    const made = await (await hearth()).snapshots.create(request, { onProgress: out.onProgress });
    printCreatedSnapshot(out, made);
  },
});
