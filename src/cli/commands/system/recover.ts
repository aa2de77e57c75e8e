import { HearthError } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { parseVmName } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";

export default command({
  path: ["system", "recover"],
  summary: "List lost+found, or create a VM from a disk in it",
  about:
    "hearthd never deletes a directory that its store does not know, such as after the store was restored " +
    "from a backup: it moves the directory to lost+found in the state directory. With --vm, a new VM is " +
    "created with the disk of such a VM. The VM is not started and gets the default sizes; `hearth set` " +
    "changes them. IMAGE is the image that the old VM was created from.",
  args: [
    { name: "IMAGE", optional: true, help: "Image, such as debian or debian:trixie", completes: "image" },
  ],
  flags: {
    vm: { value: "ID", help: "ID of the VM whose disk is used" },
    name: { value: "NAME", help: "Name of the new VM" },
  },
  examples: [
    ["hearth system recover", "List lost+found"],
    [
      "hearth system recover --vm vm-ns27z2jmddvf --name web debian",
      "Create a VM with the disk of a lost one",
    ],
  ],
  async run({ args, flags, out, hearth }) {
    const [image] = args;
    if (flags.vm === undefined && flags.name === undefined && image === undefined) {
      const entries = await (await hearth()).lostFound.list();
      if (out.wantsJson) return out.json(entries);
      if (entries.length === 0) return out.note("lost+found is empty.");
      const rows = entries.map(({ kind, name, day, path, hasDisk }) => [
        name,
        kind,
        day,
        hasDisk ? "yes" : "-",
        path,
      ]);
      await out.table(["NAME", "KIND", "FOUND", "DISK", "PATH"], rows);
      return;
    }
    if (flags.vm === undefined || flags.name === undefined || image === undefined)
      throw new HearthError(
        "input.invalid",
        "system recover: --vm, --name and IMAGE must be given together.",
        {
          hint: "For instance: hearth system recover --vm vm-ns27z2jmddvf --name web debian",
        },
      );
    const request = { name: parseVmName(flags.name), image: parseImageRef(image) };
    const vm = await (await hearth()).lostFound.recover(flags.vm, request, { onProgress: out.onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(await vm.show());
    out.line(vm.name);
    out.note(`Next: hearth start ${vm.name}`);
  },
});
