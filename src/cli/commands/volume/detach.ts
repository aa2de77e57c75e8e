import { parseVmName, parseVolumeName } from "#model/ids.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["volume", "detach"],
  summary: "Take a volume from a VM; its data stays",
  about:
    "From its next start on. A VM that runs has to be stopped first, because no driver here unplugs disks.",
  args: [
    { name: "VM", help: "Name or id", completes: "vm" },
    { name: "VOLUME", completes: "volume" },
  ],
  flags: {},
  examples: [["hearth volume detach web data", "Another VM may have it now"]],
  async run({ args, out, hearth }) {
    const name = parseVmName(args[0] ?? "");
    const volume = parseVolumeName(args[1] ?? "");
    const vm = await (await hearth()).vm(name).detachVolume(volume);
    if (out.wantsJson) return out.json(vm);
    out.line(volume);
  },
});
