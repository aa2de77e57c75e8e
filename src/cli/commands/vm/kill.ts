import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

const SIGNALS = { KILL: "SIGKILL", TERM: "SIGTERM", SIGKILL: "SIGKILL", SIGTERM: "SIGTERM" } as const;
/** hearthd's default. */
const DEFAULT_SIGNAL = "KILL";

export default command({
  path: ["kill"],
  summary: "Stop VMs immediately, without a guest shutdown",
  about:
    "Data that the guest has not flushed to its disks is lost. The memory of a suspended VM is deleted. " +
    "Use `hearth stop` for a clean shutdown.",
  args: [{ name: "VM", many: true, help: "Names or IDs of the VMs", completes: "vm" }],
  flags: {
    signal: {
      short: "s",
      value: "NAME",
      choices: Object.keys(SIGNALS),
      default: DEFAULT_SIGNAL,
      help: "Signal to send to the VMM",
    },
  },
  examples: [
    ["hearth kill web", "Stop a VM at once"],
    ["hearth kill --signal TERM web", "Let the VMM clean up before it ends"],
  ],
  async run({ args, flags, out, hearth }) {
    const client = await hearth();
    // The parser has checked it against the choices.
    const killSignal = flags.signal === undefined ? undefined : SIGNALS[flags.signal as keyof typeof SIGNALS];
    return eachVm(args, out, async (name) => ({ result: await client.vm(name).kill({ killSignal }) }));
  },
});
