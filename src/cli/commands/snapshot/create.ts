import { parseSnapshotName, parseVmName } from "#model/ids.ts";
import { parseLabels } from "#model/labels.ts";
import { command } from "#cli/command.ts";
import { printCreatedSnapshot } from "#cli/print-created-snapshot.ts";
import { SNAPSHOT_LABEL_FLAG } from "#cli/vm-flags.ts";

export default command({
  path: ["snapshot", "create"],
  summary: "Create a snapshot of a VM",
  about:
    "Saves the disk of the VM, and its memory if it is running or paused. Resume a suspended VM first. A " +
    "running VM is paused for a moment. `hearth snapshot restore` returns the VM to the snapshot; `hearth " +
    "create --snapshot` creates another VM from it. Disk space is shared until a VM writes. Volumes are " +
    "not part of a snapshot: a running or paused VM with volumes needs --disk-only. Prints the name of the " +
    "snapshot.",
  args: [
    { name: "VM", help: "Name or ID of the VM", completes: "vm" },
    { name: "NAME", optional: true, help: "Name of the snapshot (default: name of the VM and the time)" },
  ],
  flags: {
    ...SNAPSHOT_LABEL_FLAG,
    diskOnly: { help: "Save only the disk of a running VM; restored VMs boot" },
  },
  examples: [
    ["hearth snapshot create web before-upgrade", "Then: hearth snapshot restore before-upgrade"],
    ["hearth snapshot create --label nightly web", "Then: hearth snapshot ls --filter label=nightly"],
    ["hearth snapshot create --disk-only web", "Create a smaller snapshot that works on every host"],
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
