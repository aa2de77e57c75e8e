import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["rm"],
  summary: "Remove VMs with their disks",
  about: "What was written in them is gone.",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: { force: { short: "f", help: "Also VMs that run" } },
  examples: [
    ["hearth rm web", "One that does not run"],
    ["hearth rm -f web db", "Also ones that run"],
  ],
  async run({ args, flags, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      await client.vm(name).remove({ force: flags.force });
      return { result: { name, removed: true } };
    });
  },
});
