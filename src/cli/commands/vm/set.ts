import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { formatSize } from "#base/sizes.ts";
import { command } from "#cli/command.ts";
import { parseSizes, SIZE_FLAGS } from "#cli/vm-flags.ts";

export default command({
  path: ["set"],
  summary: "Change CPUs, memory or disk of a VM that does not run",
  about: "A disk only grows; its file system grows at the next start.",
  args: [{ name: "VM", help: "Name or id", completes: "vm" }],
  flags: SIZE_FLAGS,
  examples: [
    ["hearth set web --memory 4G", "From the next start on"],
    ["hearth set web --cpus 4 --disk 32G", "Both at once"],
  ],
  async run({ args, flags, out, hearth }) {
    const name = parseVmName(args[0] ?? "");
    const change = parseSizes(flags);
    if (Object.keys(change).length === 0) {
      const hint = `Write, for instance, \`hearth set ${name} --memory 4G\`.`;
      throw new HearthError("input.invalid", "set: nothing to change.", { hint });
    }
    const vm = await (await hearth()).vm(name).set(change);
    if (out.wantsJson) return out.json(vm);
    out.line(
      `${vm.name}: ${vm.cpus} CPUs, ${formatSize(vm.memoryBytes)} memory, ${formatSize(vm.diskBytes)} disk`,
    );
  },
});
