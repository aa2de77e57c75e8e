import { parseVmName, parseVolumeName } from "#model/ids.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["volume", "detach"],
  summary: "Detach a volume from a VM",
  about: "The volume keeps its data. The VM must be stopped, because hot unplug of disks is not supported.",
  args: [
    { name: "VM", help: "Name or ID of the VM", completes: "vm" },
    { name: "VOLUME", help: "Name of the volume", completes: "volume" },
  ],
  flags: {},
  examples: [["hearth volume detach web data", "Detach a volume; another VM can use it now"]],
  async run({ args, out, hearth }) {
    const name = parseVmName(args[0] ?? "");
    const volume = parseVolumeName(args[1] ?? "");
    const vm = await (await hearth()).vm(name).detachVolume(volume);
    if (out.wantsJson) return out.json(vm);
    out.line(volume);
  },
});
