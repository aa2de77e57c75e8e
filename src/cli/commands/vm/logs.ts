import { parseVmName } from "#model/ids.ts";
import { command } from "#cli/command.ts";
import { parseLineCount, printLog } from "#cli/log-text.ts";

export default command({
  path: ["logs"],
  summary: "Print the console of a VM, or the log of its VMM",
  about:
    "On a terminal, control characters from the guest are escaped; a pipe gets the bytes unchanged. With " +
    "--json, each line is an object.",
  args: [{ name: "VM", help: "Name or ID of the VM", completes: "vm" }],
  flags: {
    follow: { short: "f", help: "Follow the log" },
    vmm: { help: "Print the log of the VMM instead of the guest console" },
    lines: { short: "n", value: "NUMBER", default: "all", help: "Only print the last lines" },
  },
  examples: [
    ["hearth logs web", "Print all that is kept"],
    ["hearth logs -f -n 20 web", "Print the last 20 lines, and follow the log"],
    ["hearth logs --vmm web", "Find out why a VM did not boot"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const name = parseVmName(args[0] ?? "");
    const lines = parseLineCount(flags.lines);
    const source = flags.vmm ? "vmm" : "console";
    const log = await (await hearth()).vm(name).logs({ source, follow: flags.follow, lines });
    await printLog(log, io, out);
  },
});
