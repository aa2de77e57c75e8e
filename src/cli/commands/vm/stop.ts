import { parseStopTime, STOP_TIME } from "#cli/stop-time.ts";
import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["stop"],
  summary: "Stop VMs with a guest shutdown",
  about:
    "The guest stops its services and flushes its disks; if it takes longer than --time, its VMM is " +
    "killed. A VM that is not running is left as it is, which is not an error.",
  args: [{ name: "VM", many: true, help: "Names or IDs of the VMs", completes: "vm" }],
  flags: { time: STOP_TIME },
  examples: [
    ["hearth stop web", "Stop a VM; its disk keeps all data"],
    ["hearth stop --time 60s db", "Give the guest more time"],
    ["hearth stop web db cache", "Stop several VMs at once"],
  ],
  async run({ args, flags, out, hearth }) {
    const timeoutMs = parseStopTime(flags.time);
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      const vm = client.vm(name);
      const before = await vm.show();
      if (["created", "stopped", "failed"].includes(before.phase)) {
        return { result: before, note: `${before.name} is not running.` };
      }
      if (before.phase === "suspended") {
        const note = `${before.name} is suspended, and stays so. \`hearth kill ${before.name}\` deletes its memory.`;
        return { result: before, note };
      }
      return { result: await vm.stop({ timeoutMs, onProgress: out.onProgress }) };
    });
  },
});
