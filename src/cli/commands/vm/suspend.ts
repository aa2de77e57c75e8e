import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["suspend"],
  summary: "Save the memory of VMs to the disk and end their VMMs",
  about:
    "A VM that is suspended takes no memory and no CPU of the host. It goes on where it was with `hearth resume`, or " +
    "when a command is to run in it. One that is suspended already is left as it is.",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: {},
  examples: [
    ["hearth suspend web", "`hearth exec web -- uptime` wakes it"],
    ["hearth suspend web db cache", "Several at once"],
  ],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      const vm = client.vm(name);
      const before = await vm.show();
      if (before.phase === "suspended")
        return { result: before, note: `${before.name} is suspended already.` };
      return { result: await vm.suspend({ onProgress: out.onProgress }) };
    });
  },
});
