import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["pause"],
  summary: "Halt the CPUs of VMs",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: {},
  examples: [["hearth pause web", "Its memory stays; `hearth resume web` goes on"]],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => ({ result: await client.vm(name).pause() }));
  },
});
