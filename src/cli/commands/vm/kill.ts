import { command } from "#cli/command.ts";
import { eachVm } from "#cli/each-vm.ts";

const SIGNALS = { KILL: "SIGKILL", TERM: "SIGTERM", SIGKILL: "SIGKILL", SIGTERM: "SIGTERM" } as const;

export default command({
  path: ["kill"],
  summary: "End VMs without asking them",
  about: "`hearth stop` asks the guest, and loses nothing.",
  args: [{ name: "VM", many: true, help: "Names or ids", completes: "vm" }],
  flags: {
    signal: {
      short: "s",
      value: "NAME",
      choices: Object.keys(SIGNALS),
      help: "What the VMM gets; KILL unless told",
    },
  },
  examples: [
    ["hearth kill web", "At once; what the guest had not flushed is lost"],
    ["hearth kill --signal TERM web", "The VMM may still tidy up"],
  ],
  async run({ args, flags, out, hearth }) {
    const client = await hearth();
    // The parser has checked it against the choices.
    const killSignal = flags.signal === undefined ? undefined : SIGNALS[flags.signal as keyof typeof SIGNALS];
    return eachVm(args, out, async (name) => ({ result: await client.vm(name).kill({ killSignal }) }));
  },
});
