/** Makes listeners: the addresses at which clients reach the API. `run-daemon.ts` lists those of hearthd. */
import { chmodSync } from "node:fs";
import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingMessage, RequestListener, Server, ServerOptions } from "node:http";
import { removeStaleSocket } from "#host/unix-socket.ts";
import { LOCAL_USER } from "#model/principal.ts";
import type { Principal } from "#model/principal.ts";

/** An address. A new kind, such as TLS or vsock, is one more function that makes a `Listener`. */
export type Listener = {
  /** The address, as errors and the log name it. */
  readonly address: string;
  /** Makes the server that speaks HTTP at this address; with TLS it also decrypts. It does not listen yet. */
  makeServer(options: ServerOptions, answer: RequestListener): Server;
  /** Resolves when the server listens. Rejects with the system's error, and the server does not listen then. */
  listen(server: Server): Promise<unknown>;
  /** Returns the principal of a request over this address. The request may still be refused. */
  principalOf(request: IncomingMessage): Principal;
};

/**
 * Makes a listener at a Unix socket that only hearthd's own user may open. Removes what is at `path`, so the caller has
 * hearthd's lock.
 */
export function unixListener(path: string): Listener {
  return {
    address: path,
    makeServer: createServer,
    listen: async (server) => {
      removeStaleSocket(path);
      server.listen(path);
      await once(server, "listening");
      chmodSync(path, 0o600);
    },
    // Node cannot tell which user is at the other end; the socket's mode admits only this one.
    principalOf: () => LOCAL_USER,
  };
}
