import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { pipeline } from "node:stream/promises";
import { HearthError, toHearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { parseForward } from "#model/port-forward.ts";
import type { PortForward } from "#model/port-forward.ts";
import { command } from "#cli/command.ts";
import type { Out } from "#cli/output.ts";
import { untilSignal } from "#cli/until-signal.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";

export default command({
  path: ["port-forward"],
  summary: "Forward ports of this host to a VM",
  about:
    "Until Ctrl-C, connections to each PORT of this host reach GUEST-PORT of the guest, also on its loopback. " +
    "They go through the guest agent, so the VM needs no network. A suspended VM is resumed by the first " +
    "connection. To publish ports for as long as the VM runs, use `hearth create --publish`.",
  args: [
    { name: "VM", help: "Name or ID of the VM", completes: "vm" },
    {
      name: "[ADDRESS:][PORT:]GUEST-PORT",
      many: true,
      help: "Ports; the default address is 127.0.0.1, the default PORT is GUEST-PORT, and 0 is any free one",
    },
  ],
  flags: {},
  examples: [
    ["hearth port-forward web 8080:80", "Reach port 80 of the guest at 127.0.0.1:8080"],
    ["hearth port-forward db 5432", "Use the same port on both sides"],
  ],
  async run({ args, io, out, hearth }) {
    const vm = (await hearth()).vm(parseVmName(args[0] ?? ""));
    const forwards = args.slice(1).map(parseForward);
    await vm.show();
    return untilSignal(io, async (signal) => {
      const servers: Server[] = [];
      try {
        for (const forward of forwards) servers.push(await listen(vm, forward, out, signal));
        await once(signal, "abort");
      } finally {
        for (const server of servers) server.close();
      }
    });
  },
});

/** Listens, and forwards each connection until it ends or `signal` aborts. */
async function listen(
  vm: HearthVm,
  { address, port, guestPort }: PortForward,
  out: Out,
  signal: AbortSignal,
): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    connect(vm, guestPort, socket, signal).catch((error: unknown) => {
      if (!signal.aborted) out.note(`Port ${guestPort}: ${toHearthError(error).message}`);
    });
  });
  server.listen(port, address);
  try {
    await once(server, "listening");
  } catch (error) {
    throw explain(error as NodeJS.ErrnoException, address, port);
  }
  const bound = server.address() as AddressInfo;
  if (out.wantsJson) out.jsonLine({ address, port: bound.port, guestPort });
  else out.line(`${address}:${bound.port} -> ${guestPort}`);
  return server;
}

async function connect(vm: HearthVm, guestPort: number, socket: Socket, signal: AbortSignal): Promise<void> {
  socket.on("error", () => {}); // The pipeline reports it.
  try {
    const guest = await vm.dial(guestPort, signal);
    // An orderly end would make a part of an answer look whole.
    guest.once("error", () => socket.resetAndDestroy());
    await Promise.all([pipeline(socket, guest, { signal }), pipeline(guest, socket, { signal })]);
  } catch (error) {
    socket.resetAndDestroy();
    // A client that hangs up is no error.
    if ((error as NodeJS.ErrnoException).code !== "ERR_STREAM_PREMATURE_CLOSE") throw error;
  }
}

function explain(error: NodeJS.ErrnoException, address: string, port: number): unknown {
  switch (error.code) {
    case "EADDRINUSE":
      return new HearthError("port.taken", `Cannot listen on ${address}:${port}: a program has this port.`, {
        hint: "Choose another port, or 0 for any free one.",
      });
    case "EADDRNOTAVAIL":
      return new HearthError("input.invalid", `${address} is not an address of this host.`);
    case "EACCES":
      return new HearthError("input.invalid", `Ports below 1024, such as ${port}, are for root.`, {
        hint: "Choose a higher port.",
      });
    default:
      return error;
  }
}
