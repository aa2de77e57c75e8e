import { once } from "node:events";
import { HearthError, toHearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { command } from "#cli/command.ts";
import { serveNames } from "#cli/names-server.ts";
import { untilSignal } from "#cli/until-signal.ts";
import type { Hearth } from "#sdk/hearth.ts";

const ADDRESS = "127.0.0.1";
const PORT = 5335;
const DNS_PORT = 53;

export default command({
  path: ["network", "dns"],
  summary: "Answer names of VMs for programs of this host",
  about:
    "Until Ctrl-C, a DNS server on 127.0.0.1 answers NAME.hearth with the address at which programs of this " +
    "host reach the VM, as long as it runs with the network nat, and refuses all other names. VMs find each " +
    "other without it, on private networks.",
  args: [],
  flags: { port: { value: "PORT", default: String(PORT), help: "UDP port" } },
  examples: [
    ["hearth network dns", "Serve names at port 5335, and print how to use it"],
    ["hearth network dns --port 53", "Serve names for /etc/resolv.conf, as root"],
  ],
  async run({ flags, io, out, hearth }) {
    const port = parsePort(flags.port ?? String(PORT));
    const client = await hearth();
    return untilSignal(io, async (signal) => {
      const onFailure = (error: unknown): void => {
        if (!signal.aborted) out.note(toHearthError(error).message);
      };
      const bound = await listen(port, (vm) => addressesOf(client, vm), onFailure, signal);
      if (out.wantsJson) out.jsonLine({ address: ADDRESS, port: bound });
      else for (const line of usage(bound)) out.line(line);
      if (!signal.aborted) await once(signal, "abort");
    });
  },
});

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0xffff + 1;
  if (port <= 0xffff) return port;
  throw new HearthError("input.invalid", `port: ${JSON.stringify(text)} is not a port.`, {
    hint: "Ports are 1 to 65535, and 0 is any free one.",
  });
}

/** Returns the lines that tell how programs come to use the server. */
function usage(port: number): string[] {
  return [
    `Serving names of VMs at ${ADDRESS} port ${port}.`,
    "For systemd-resolved, in /etc/systemd/resolved.conf.d/hearth.conf:",
    "  [Resolve]",
    `  DNS=${ADDRESS}:${port}`,
    "  Domains=~hearth",
    ...(port === DNS_PORT
      ? ["Without systemd-resolved, as the first line of /etc/resolv.conf:", `  nameserver ${ADDRESS}`]
      : ["/etc/resolv.conf knows no ports: it takes --port 53."]),
  ];
}

async function addressesOf(hearth: Hearth, name: string): Promise<readonly string[] | undefined> {
  try {
    const { address } = await hearth.vm(parseVmName(name)).show();
    return address === undefined ? undefined : [address];
  } catch (error) {
    const { code } = toHearthError(error);
    if (code === "vm.not_found" || code === "input.invalid") return undefined;
    throw error;
  }
}

async function listen(
  port: number,
  ...[find, onFailure, signal]: [
    Parameters<typeof serveNames>[1],
    Parameters<typeof serveNames>[2],
    AbortSignal,
  ]
): Promise<number> {
  try {
    return await serveNames({ address: ADDRESS, port }, find, onFailure, signal);
  } catch (error) {
    switch ((error as NodeJS.ErrnoException).code) {
      case "EADDRINUSE":
        throw new HearthError("port.taken", `Cannot listen on ${ADDRESS}:${port}: a program has this port.`, {
          hint: `Choose another with --port, or find the program: ss -lpnu sport = :${port}`,
        });
      case "EACCES":
        throw new HearthError("input.invalid", `Ports below 1024, such as ${port}, are for root.`, {
          hint: "Choose a higher port.",
        });
      default:
        throw error;
    }
  }
}
