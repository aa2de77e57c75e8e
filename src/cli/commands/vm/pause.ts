import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["pause"],
  summary: "Pause VMs",
  about: "Stops the virtual CPUs. The VM keeps its memory, and `hearth resume` lets it continue.",
  args: [{ name: "VM", many: true, help: "Names or IDs of the VMs", completes: "vm" }],
  flags: {},
  examples: [["hearth pause web", "Then: hearth resume web"]],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => ({ result: await client.vm(name).pause() }));
  },
});
