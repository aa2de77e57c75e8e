import { parseVmName } from "#model/ids.ts";
import { formatVolumeMount, parseVolumeMount } from "#model/volume.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["volume", "attach"],
  summary: "Give a VM one volume more",
  about:
    "From its next start on. A VM that runs has to be stopped first, because no driver here plugs disks in.",
  args: [
    { name: "VM", help: "Name or id", completes: "vm" },
    { name: "NAME:/PATH[:ro]", help: "As for `--volume` of `hearth create`", completes: "volume" },
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
