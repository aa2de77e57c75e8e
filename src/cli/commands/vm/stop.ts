import { parseStopTime, STOP_TIME } from "#cli/stop-time.ts";
import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["stop"],
  summary: "Flush and power off VMs",
  about:
    "The guest stops its services and flushes its disks; after the time the VMM is ended. One that does not run is left as it is, and that is no error.",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: { time: STOP_TIME },
  examples: [
    ["hearth stop web", "What was written is there after the next start"],
    ["hearth stop --time 60s db", "For one that takes long"],
    ["hearth stop web db cache", "Several at once"],
  ],
  async run({ args, flags, out, hearth }) {
    const timeoutMs = parseStopTime(flags.time);
    const client = await hearth();
    return eachVm(args, out, async (name) => {
      const vm = client.vm(name);
      const before = await vm.show();
      if (["created", "stopped", "failed"].includes(before.phase)) {
        return { result: before, note: `${before.name} does not run.` };
      }
      if (before.phase === "suspended") {
        const note = `${before.name} is suspended, and does not run. \`hearth kill ${before.name}\` drops its memory.`;
        return { result: before, note };
      }
      return { result: await vm.stop({ timeoutMs, onProgress: out.onProgress }) };
    });
  },
});
