import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["suspend"],
  summary: "Suspend VMs to disk",
  about:
    "Saves the memory of the VM to disk and ends its VMM, so that the VM uses no memory and no CPU of the " +
    "host. The VM continues with `hearth resume`, or when `exec`, `shell` or `cp` needs it. A suspended VM " +
    "is left as it is. A VM with volumes cannot be suspended.",
  args: [{ name: "VM", many: true, help: "Names or IDs of the VMs", completes: "vm" }],
  flags: {},
  examples: [
    ["hearth suspend web", "Then: hearth resume web, or hearth exec web -- uptime"],
    ["hearth suspend web db cache", "Suspend several VMs at once"],
  ],
  async run({ args, out, hearth }) {
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      const vm = client.vm(name);
      const before = await vm.show();
      if (before.phase === "suspended")
        return { result: before, note: `${before.name} is already suspended.` };
      return { result: await vm.suspend({ onProgress: out.onProgress }) };
    });
  },
});
