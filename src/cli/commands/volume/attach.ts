import { parseVmName } from "#model/ids.ts";
import { formatVolumeMount, parseVolumeMount } from "#model/volume.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["volume", "attach"],
  summary: "Attach a volume to a VM",
  about:
    "The volume is mounted from the next start on. The VM must be stopped, because hot plug of disks is " +
    "not supported.",
  args: [
    { name: "VM", help: "Name or ID of the VM", completes: "vm" },
    {
      name: "NAME:/PATH[:ro]",
      help: "Volume and mount point, as in `hearth create --volume`",
      completes: "volume",
    },
  ],
  flags: {},
  examples: [["hearth volume attach web data:/data", "Then: hearth start web"]],
  async run({ args, out, hearth }) {
    const name = parseVmName(args[0] ?? "");
    const mount = parseVolumeMount(args[1] ?? "");
    const vm = await (await hearth()).vm(name).attachVolume(mount);
    if (out.wantsJson) return out.json(vm);
    out.line(formatVolumeMount(mount));
    out.note(`Next: hearth start ${vm.name}`);
  },
});
