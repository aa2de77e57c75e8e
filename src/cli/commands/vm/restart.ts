import { parseStopTime, STOP_TIME } from "#cli/stop-time.ts";
import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["restart"],
  summary: "Stop VMs and start them again",
  about: "A VM that is stopped, failed or never started is started. Resume a suspended VM first.",
  args: [{ name: "VM", many: true, help: "Names or IDs of the VMs", completes: "vm" }],
  flags: { time: STOP_TIME },
  examples: [
    ["hearth restart web", "Boot the same disk again"],
    ["hearth restart --time 5s web", "Kill the VMM if the shutdown takes longer than 5 seconds"],
  ],
  async run({ args, flags, out, hearth }) {
    const timeoutMs = parseStopTime(flags.time);
    const client = await hearth();
    return eachVm(args, out, async (name) => ({
      result: await client.vm(name).restart({ timeoutMs, onProgress: out.onProgress }),
    }));
  },
});
