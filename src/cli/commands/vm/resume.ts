import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["resume"],
  summary: "Resume paused or suspended VMs",
  about:
    "The VM continues where it was paused or suspended. `exec`, `shell` and `cp` resume a suspended VM by " +
    "themselves. A running VM is left as it is.",
  args: [{ name: "VM", many: true, help: "Names or IDs of the VMs", completes: "vm" }],
  flags: {},
  examples: [["hearth resume web", "Continue where the VM was"]],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      const vm = client.vm(name);
      const before = await vm.show();
      // A command may have resumed it meanwhile.
      if (before.phase === "running") return { result: before, note: `${before.name} is already running.` };
      return { result: await vm.resume({ onProgress: out.onProgress }) };
    });
  },
});
