/**
 * A virtio-serial port without a VM: one stream on the guest's side that lasts, and hosts that come and go
 * on the other. What a host did not read waits for the next one; what it half sent stays sent.
 */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export type SerialPort = AsyncDisposable & {
  readonly socketPath: string;
  /** Cuts the host that is connected off, in the middle of whatever it was doing. */
  cutHost(): void;
};

/** A port between two sockets, with the habits of a virtio-serial port. */
export async function startSerialPort(socketPath: string, agentSocketPath: string): Promise<SerialPort> {
  const guest = connect(agentSocketPath);
  await once(guest, "connect");
  guest.pause();
  let host: Socket | undefined;
  guest.on("error", () => undefined); // The agent was killed by the test.
  guest.on("data", (bytes: Buffer) => {
    if (host === undefined || host.destroyed) return;
    if (!host.write(bytes)) guest.pause();
  });
  const server = createServer((socket) => {
    host?.destroy();
    host = socket;
    socket.on("error", () => undefined); // A host that was cut off in the middle of a write.
    socket.on("drain", () => guest.resume());
    socket.on("data", (bytes: Buffer) => {
      if (guest.write(bytes)) return;
      socket.pause();
      guest.once("drain", () => socket.resume());
    });
    guest.resume();
  });
  server.listen(socketPath);
  await once(server, "listening");
  return {
    socketPath,
    cutHost: () => host?.destroy(),
    async [Symbol.asyncDispose]() {
      host?.destroy();
      guest.destroy();
      const closed = once(server, "close");
      server.close();
      await closed;
    },
  };
}
