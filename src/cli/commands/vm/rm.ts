import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["rm"],
  summary: "Remove VMs and their disks",
  about: "All data on the disk is lost, and so is the memory of a suspended VM. Volumes and snapshots stay.",
  args: [{ name: "VM", many: true, help: "Names or IDs of the VMs", completes: "vm" }],
  flags: { force: { short: "f", help: "Also remove running and paused VMs" } },
  examples: [
    ["hearth rm web", "Remove a stopped VM"],
    ["hearth rm -f web db", "Remove VMs, even if they run"],
  ],
  async run({ args, flags, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      await client.vm(name).remove({ force: flags.force });
      return { result: { name, removed: true } };
    });
  },
});
