import { parseVmName } from "#model/ids.ts";
import { command } from "#cli/command.ts";
import { parseLineCount, printLog } from "#cli/log-text.ts";

export default command({
  path: ["logs"],
  summary: "Print a VM's console, or its VMM's log",
  about:
    "On a terminal, control characters that the guest wrote are shown and not obeyed; a pipe gets the bytes. With " +
    "--json there is an object for each line.",
  args: [{ name: "VM", help: "Name or id", completes: "vm" }],
  flags: {
    follow: { short: "f", help: "Go on with what comes" },
    vmm: { help: "The VMM's own log, not the guest's console" },
    lines: { short: "n", value: "NUMBER", help: "The last so many lines alone" },
  },
  examples: [
    ["hearth logs web", "All that is kept"],
    ["hearth logs -f -n 20 web", "The last lines, and what comes"],
    ["hearth logs --vmm web", "When it did not boot"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const name = parseVmName(args[0] ?? "");
    const lines = parseLineCount(flags.lines);
    const source = flags.vmm ? "vmm" : "console";
    const log = await (await hearth()).vm(name).logs({ source, follow: flags.follow, lines });
    await printLog(log, io, out);
  },
});
