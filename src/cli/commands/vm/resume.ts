import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["resume"],
  summary: "Let paused VMs go on",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: {},
  examples: [["hearth resume web", "From where it was paused"]],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => ({ result: await client.vm(name).resume() }));
  },
});
