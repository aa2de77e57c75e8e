import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["start"],
  summary: "Boot VMs",
  about:
    "Answers when commands can run in the VM. A VM that runs already is left as it is, a start that is under way is " +
    "waited for, and a suspended VM is resumed. With --fresh the VM starts as if it had never run: everything on its " +
    "own disk is removed, and so is the memory of a suspended VM. Volumes keep what is on them. A start that is interrupted, as with Ctrl-C, is " +
    "cancelled and undone; with --detach hearthd continues by itself, and the operation's id is printed.",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: {
    fresh: { help: "Begin with an empty disk: what was written to it is lost" },
    detach: { help: "Do not wait, and print the operation's id" },
  },
  examples: [
    ["hearth start web", "Back when commands can run in it"],
    ["hearth start web db cache", "Several at once"],
    ["hearth start --fresh scratch", "As if it had never run"],
    ["hearth start --detach web", "Back at once; `hearth operation wait ID` waits for the VM"],
  ],
  async run({ args, flags, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      const vm = client.vm(name);
      const { onProgress } = out;
      // One that runs cannot be fresh, and hearthd says so.
      const { fresh } = flags;
      if (flags.detach) {
        if (!fresh) await vm.show(); // One that does not exist is said at once.
        const operation = await vm.start({ fresh, detach: true });
        return { result: operation, line: operation.id };
      }
      if (fresh) return { result: await vm.start({ fresh: true, onProgress }) };
      const before = await vm.show();
      if (before.phase === "running") return { result: before, note: `${before.name} runs already.` };
      return { result: await vm.start({ onProgress }) };
    });
  },
});
