/** The API on its socket: HTTP requests and WebSockets, from the first connection to the last. */
import { chmodSync } from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import { getRequestListener } from "@hono/node-server";
import { HearthError } from "#base/error.ts";
import { TokenBucket } from "#base/token-bucket.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { makeApi } from "#daemon/http/api.ts";
import { serveUpgrades } from "#daemon/http/upgrade.ts";
import type { Service } from "#daemon/lifecycle/service.ts";
import { removeStaleSocket } from "#host/unix-socket.ts";

/** For clients to send the rest of a request, and later for them to take the rest of an answer. */
const GRACE_MS = 1_000;
/** Accept errors come with every connection while hearthd has no file descriptors left. */
const ERROR_LINES = { perS: 1 / 60, burst: 3 };

/** Serves the API until it is closed. No client can end it, and neither can a failing accept. */
export class ApiServer implements Service {
  readonly name = "API";
  readonly http: Server;
  readonly #daemon: Daemon;
  readonly #socketPath: string;
  readonly #requests = new Set<IncomingMessage>();
  #closed: Promise<void> | undefined;

  constructor(daemon: Daemon, socketPath: string) {
    const routes = makeApi(daemon);
    // Two hours for an image build over a slow line; a request that uploads may take as long as it takes.
    const server = createServer({ requestTimeout: 0 }, getRequestListener(routes.fetch));
    serveUpgrades(server, routes, daemon);
    this.http = server;
    this.#daemon = daemon;
    this.#socketPath = socketPath;
    server.on("request", (request, response) => {
      this.#requests.add(request);
      response.once("close", () => {
        this.#requests.delete(request);
        // Its connection is idle in a moment, and would be waited for as long as its client keeps it.
        if (this.#closed !== undefined) setImmediate(() => server.closeIdleConnections());
      });
    });
  }

  /**
   * Listens; whatever lies at the path is removed, so the caller holds hearthd's lock.
   * @throws HearthError `daemon.start_failed`
   */
  async start(): Promise<void> {
    const { http: server } = this;
    const socketPath = this.#socketPath;
    removeStaleSocket(socketPath);
    await new Promise<void>((resolve, reject) => {
      server.once("error", (cause) => {
        reject(new HearthError("daemon.start_failed", `hearthd cannot listen at ${socketPath}.`, { cause }));
      });
      server.listen(socketPath, () => resolve());
    });
    chmodSync(socketPath, 0o600);
    const lines = new TokenBucket(ERROR_LINES);
    server.removeAllListeners("error").on("error", (error) => {
      if (lines.take()) this.#daemon.host.log.event("daemon.bug", { where: "accepting a connection", error });
    });
  }

  /** Takes no more connections, and waits for the requests that are under way. */
  async drain(): Promise<void> {
    this.#stopAccepting();
    await this.#daemon.ending.settled();
  }

  /** Tells the clients of what is under way that it is given up. */
  async giveUp(): Promise<void> {
    this.#daemon.ending.giveUp();
    await this.stop();
  }

  /** Ends every connection, when what was answered has been taken. */
  async stop(): Promise<void> {
    this.#stopAccepting();
    this.http.closeIdleConnections();
    const timer = setTimeout(() => this.http.closeAllConnections(), GRACE_MS);
    await this.#closed;
    clearTimeout(timer);
  }

  /** Removes the socket; requests under way go on, if they are sent soon. */
  #stopAccepting(): void {
    if (this.#closed !== undefined) return;
    this.#closed = new Promise((resolve) => this.http.close(() => resolve()));
    setTimeout(() => {
      // A handler that waits for the rest of such a request would wait for ever.
      for (const request of this.#requests) if (!request.complete) request.socket.destroy();
    }, GRACE_MS).unref();
  }
}
