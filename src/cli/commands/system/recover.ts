import { HearthError } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { parseVmName } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";

export default command({
  path: ["system", "recover"],
  summary: "List lost+found, or make a VM with a disk in there",
  about:
    "hearthd removes no directory because its store does not know it, such as after the store was restored from a " +
    "backup: it moves it to lost+found in the state folder. With --vm a new VM is made with the disk of such a VM. It " +
    "is not started, and gets the default sizes; `hearth set` changes them. IMAGE is the one that the VM was made from.",
  args: [{ name: "IMAGE", optional: true, help: "Such as debian or debian:trixie", completes: "image" }],
  flags: {
    vm: { value: "ID", help: "Take back the disk of this VM" },
    name: { value: "NAME", help: "The name of the new VM" },
  },
  examples: [
    ["hearth system recover", "What is in lost+found"],
    ["hearth system recover --vm vm-ns27z2jmddvf --name web debian", "A new VM with that disk"],
  ],
  async run({ args, flags, out, hearth }) {
    const [image] = args;
    if (flags.vm === undefined && flags.name === undefined && image === undefined) {
      const entries = await (await hearth()).lostFound.list();
      if (out.wantsJson) return out.json(entries);
      if (entries.length === 0) return out.note("There is nothing in lost+found.");
      const rows = entries.map(({ kind, name, day, path, hasDisk }) => [
        name,
        kind,
        day,
        hasDisk ? "yes" : "-",
        path,
      ]);
      out.table(["NAME", "KIND", "FOUND", "DISK", "PATH"], rows);
      return;
    }
    if (flags.vm === undefined || flags.name === undefined || image === undefined)
      throw new HearthError("input.invalid", "recover: a VM is made from --vm, --name and IMAGE together.", {
        hint: "For instance: hearth system recover --vm vm-ns27z2jmddvf --name web debian",
      });
    const request = { name: parseVmName(flags.name), image: parseImageRef(image) };
    const vm = await (await hearth()).lostFound.recover(flags.vm, request, { onProgress: out.onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(await vm.show());
    out.line(vm.name);
    out.note(`Next: hearth start ${vm.name}`);
  },
});
