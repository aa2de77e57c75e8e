import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["start"],
  summary: "Start VMs",
  about:
    "Waits until commands can run in the VM. A running VM is left as it is, a start in progress is waited " +
    "for, and a suspended VM is resumed. With --fresh, the VM starts as if it had never run: everything " +
    "on its own disk is deleted, and so is the memory of a suspended VM. Volumes keep their data. Ctrl-C " +
    "cancels the start and undoes it; with --detach, hearthd continues in the background and the " +
    "operation ID is printed.",
  args: [{ name: "VM", many: true, help: "Names or IDs of the VMs", completes: "vm" }],
  flags: {
    fresh: { help: "Start with a new disk of the image; all data on the old one is lost" },
    detach: { help: "Print the operation ID and exit, without waiting" },
  },
  examples: [
    ["hearth start web", "Start a VM and wait until commands can run in it"],
    ["hearth start web db cache", "Start several VMs at once"],
    ["hearth start --fresh scratch", "Start a VM as if it had never run"],
    ["hearth start --detach web", "Start in the background; `hearth operation wait ID` waits for it"],
  ],
  async run({ args, flags, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      const vm = client.vm(name);
      const { onProgress } = out;
      // hearthd refuses `fresh` for a running VM.
      const { fresh } = flags;
      if (flags.detach) {
        if (!fresh) await vm.show(); // A missing VM is reported at once.
        const operation = await vm.start({ fresh, detach: true });
        return { result: operation, line: operation.id };
      }
      if (fresh) return { result: await vm.start({ fresh: true, onProgress }) };
      const before = await vm.show();
      if (before.phase === "running") return { result: before, note: `${before.name} is already running.` };
      return { result: await vm.start({ onProgress }) };
    });
  },
});
