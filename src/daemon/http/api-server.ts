/** Serves the API at its addresses: HTTP requests and WebSockets, from the first connection to the last. */
import type { IncomingMessage, Server } from "node:http";
import { getRequestListener } from "@hono/node-server";
import { failAfter } from "#base/clean-up.ts";
import { within } from "#base/deadline.ts";
import { HearthError } from "#base/error.ts";
import { TokenBucket } from "#base/token-bucket.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { makeApi } from "#daemon/http/api.ts";
import type { Api, ApiBindings } from "#daemon/http/api.ts";
import type { Listener } from "#daemon/http/listener.ts";
import { serveUpgrades } from "#daemon/http/upgrade.ts";
import type { Service } from "#daemon/lifecycle/service.ts";

/** The time for clients to send the rest of a request, and later to read the rest of an answer. */
const GRACE_MS = 1_000;
/** The rate of log lines about failed accepts: with no file descriptors left, every connection fails. */
const ERROR_LINES = { perS: 1 / 60, burst: 3 };
/** No limit: an image build over a slow line takes two hours, and an upload may take any time. */
const SERVER_OPTIONS = { requestTimeout: 0 };

/** Serves the API at all of its addresses until it is stopped. Neither a client nor a failing accept can end it. */
export class ApiServer implements Service {
  readonly name = "API";
  /** The servers of the listeners, in their order. */
  readonly servers: readonly Server[];
  readonly #daemon: Daemon;
  readonly #listeners: readonly Listener[];
  readonly #requests = new Set<IncomingMessage>();
  #closed: Promise<unknown> | undefined;

  constructor(daemon: Daemon, listeners: readonly Listener[]) {
    const api = makeApi(daemon);
    this.#daemon = daemon;
    this.#listeners = listeners;
    this.servers = listeners.map((listener) => this.#makeServer(api, listener));
  }

  /** Listens at all addresses, or at none. @throws HearthError `daemon.start_failed` */
  async start(): Promise<void> {
    for (const [index, listener] of this.#listeners.entries()) {
      const server = this.servers[index] as Server;
      try {
        await listener.listen(server);
      } catch (cause) {
        const message = `hearthd cannot listen at ${listener.address}.`;
        await failAfter(new HearthError("daemon.start_failed", message, { cause }), () => this.stop());
      }
      this.#tellFailedAccepts(server);
    }
  }

  /** Accepts no more connections, and waits for the requests that are under way. */
  async drain(): Promise<void> {
    this.#stopAccepting();
    await this.#daemon.ending.settled();
  }

  /** Tells the clients of requests that are under way that these are abandoned. */
  async abandon(): Promise<void> {
    this.#daemon.ending.abandon();
    await this.stop();
  }

  /** Ends every connection, once the client has read its answer, or after `GRACE_MS`. */
  async stop(): Promise<void> {
    this.#stopAccepting();
    for (const server of this.servers) server.closeIdleConnections();
    if ((await within(this.#closed, GRACE_MS)) !== undefined) return;
    for (const server of this.servers) server.closeAllConnections();
    await this.#closed;
  }

  #makeServer(api: Api, listener: Listener): Server {
    const answer = getRequestListener((request, { incoming, outgoing }) => {
      const principal = listener.principalOf(incoming as IncomingMessage);
      return api.fetch(request, { principal, outgoing } as ApiBindings);
    });
    const server = listener.makeServer(SERVER_OPTIONS, answer);
    serveUpgrades(server, api, this.#daemon, (request) => listener.principalOf(request));
    server.on("request", (request, response) => {
      this.#requests.add(request);
      response.once("close", () => {
        this.#requests.delete(request);
        // Its connection is idle in a moment. Otherwise it would be waited for as long as its client keeps it open.
        if (this.#closed !== undefined) setImmediate(() => server.closeIdleConnections());
      });
    });
    return server;
  }

  #tellFailedAccepts(server: Server): void {
    const lines = new TokenBucket(ERROR_LINES);
    server.on("error", (error) => {
      if (lines.take()) this.#daemon.host.log.event("daemon.bug", { where: "accepting a connection", error });
    });
  }

  /** Closes the addresses. Requests under way continue if their rest arrives within `GRACE_MS`. */
  #stopAccepting(): void {
    if (this.#closed !== undefined) return;
    // A server that does not listen passes an error here, which says just that.
    const close = (server: Server): Promise<void> => new Promise((resolve) => server.close(() => resolve()));
    this.#closed = Promise.all(this.servers.map(close));
    setTimeout(() => {
      // A handler that waits for the rest of such a request would wait forever.
      for (const request of this.#requests) if (!request.complete) request.socket.destroy();
    }, GRACE_MS).unref();
  }
}
