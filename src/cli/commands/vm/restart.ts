import { parseStopTime, STOP_TIME } from "#cli/stop-time.ts";
import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

export default command({
  path: ["restart"],
  summary: "Stop VMs and boot them again",
  about: "One that does not run is booted.",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: { time: STOP_TIME },
  examples: [
    ["hearth restart web", "A fresh boot of the same disk"],
    ["hearth restart --time 5s web", "Ends the VMM when the guest takes longer to stop"],
  ],
  async run({ args, flags, out, hearth }) {
    const timeoutMs = parseStopTime(flags.time);
    const client = await hearth();
    return eachVm(args, out, async (name) => ({
      result: await client.vm(name).restart({ timeoutMs, onProgress: out.onProgress }),
    }));
  },
});
