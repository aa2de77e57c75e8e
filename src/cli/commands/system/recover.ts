import { HearthError } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { IMAGE_ARGUMENT } from "#cli/image-argument.ts";
import { parseVmName } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";

export default command({
  path: ["system", "recover"],
  summary: "List lost+found, or create a VM from a disk in it",
  about:
    "hearthd moves VM and snapshot directories that are not in its database to lost+found in the state " +
    "directory, for example after the database was restored from a backup. Without arguments, lists them. " +
    "--vm, --name and IMAGE together create a stopped VM with the disk of a lost one. IMAGE must be the " +
    "image of that VM. CPUs and memory are the defaults; `hearth set` changes them.",
  args: [{ ...IMAGE_ARGUMENT, optional: true }],
  flags: {
    vm: { value: "ID", help: "ID of the lost VM, from the list" },
    name: { value: "NAME", help: "Name of the new VM; required with --vm" },
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
