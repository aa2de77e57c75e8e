import type { VmPorts } from "#api/wire.ts";
import { parseVmName } from "#model/ids.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["ports"],
  summary: "List the ports of a VM on which programs listen",
  about:
    "Lists TCP ports that listen and UDP ports that are bound, as the guest tells. REACHABLE has the addresses " +
    "of this host for published ports. Otherwise, port-forward means that `hearth port-forward VM PORT` leads " +
    "to the port, and - that nothing outside of the guest does. A suspended VM is resumed first.",
  args: [{ name: "VM", help: "Name or ID of the VM", completes: "vm" }],
  flags: {},
  examples: [
    ["hearth ports web", "Show what listens, and where it is reached"],
    ["hearth ports web --json | jq '.ports[].port'", "Print JSON for programs"],
  ],
  async run({ args, out, hearth }) {
    const name = parseVmName(args[0] ?? "");
    const found = await (await hearth()).vm(name).ports();
    if (out.wantsJson) return out.json(found);
    if (found.ports.length === 0) out.note(`No program listens in ${name}.`);
    else
      await out.table(["PORT", "PROTOCOL", "ADDRESS", "PROGRAM", "PID", "REACHABLE"], found.ports.map(rowOf));
    if (found.truncated) out.note(`${name} has more ports or open files than are listed.`);
  },
});

function rowOf({
  port,
  protocol,
  address,
  program,
  pid,
  published,
  forward,
}: VmPorts["ports"][number]): string[] {
  const hosts = published.map((host) => `${host.address}:${host.hostPort}`);
  const reach = hosts.length > 0 ? hosts.join(", ") : forward ? "port-forward" : "-";
  return [String(port), protocol, address, program ?? "-", pid === undefined ? "-" : String(pid), reach];
}
