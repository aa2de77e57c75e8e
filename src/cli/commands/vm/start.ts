import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["start"],
  summary: "Boot VMs",
  about:
    "Answers when commands can run in the VM. One that runs already is left as it is, and one that is suspended goes " +
    "on where it was. With --fresh the VM starts as if it had never run: everything on its own disk is gone, and so is " +
    "the memory of one that is suspended. Volumes keep what is on them.",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: { fresh: { help: "Begin with an empty disk: what was written to it is lost" } },
  examples: [
    ["hearth start web", "Back when commands can run in it"],
    ["hearth start web db cache", "Several at once"],
    ["hearth start --fresh scratch", "As if it had never run"],
  ],
  async run({ args, flags, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      const vm = client.vm(name);
      const { onProgress } = out;
      // One that runs cannot be fresh, and hearthd says so.
      if (flags.fresh) return { result: await vm.start({ fresh: true, onProgress }) };
      const before = await vm.show();
      if (before.phase === "running") return { result: before, note: `${before.name} runs already.` };
      return { result: await vm.start({ onProgress }) };
    });
  },
});
