import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["resume"],
  summary: "Let VMs go on that are paused or suspended",
  about:
    "One that is suspended gets a VMM and its memory back. It wakes by itself when a command is to run in it, or a file " +
    "is copied. One that runs is left as it is.",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: {},
  examples: [["hearth resume web", "From where it was"]],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      const vm = client.vm(name);
      const before = await vm.show();
      // Somebody's command may have woken it meanwhile.
      if (before.phase === "running") return { result: before, note: `${before.name} runs already.` };
      return { result: await vm.resume({ onProgress: out.onProgress }) };
    });
  },
});
