import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["start"],
  summary: "Boot VMs",
  about: "Answers when commands can run in the VM. One that runs already is left as it is.",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: {},
  examples: [
    ["hearth start web", "Back when commands can run in it"],
    ["hearth start web db cache", "Several at once"],
  ],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      const vm = client.vm(name);
      const before = await vm.show();
      if (before.phase === "running") return { result: before, note: `${before.name} runs already.` };
      return { result: await vm.start({ onProgress: out.onProgress }) };
    });
  },
});
