import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";
import { apiSocketPath, hearthDirs } from "#base/hearth-dirs.ts";

const HEADERS_END = "\r\n\r\n";

/**
 * Relays between clients and hearthd at a separate HEARTH_HOME until a test breaks the connection: a healthy hearthd
 * never stops in the middle of an answer, and never stays silent.
 */
export class BreakableRelay {
  readonly home = mkdtempSync(join(tmpdir(), "hearth-relay-"));
  readonly socketPath = apiSocketPath(hearthDirs({ HEARTH_HOME: this.home }, "/"));
  /** So much of each answer's body is passed on; `cut`: then the connection is closed, otherwise nothing more comes. */
  bodyLimit: { readonly bytes: number; readonly cut: boolean } | undefined;
  /** The answer to all requests, instead of hearthd's; then the connection is closed. */
  instead: string | Buffer | undefined;
  /** Connections and what is sent are taken, and nothing is passed on any more, as by a hearthd that is stopped. */
  isSilent = false;
  /** The bytes that clients have sent over all connections. */
  sentBytes = 0;
  readonly #to: string;
  readonly #sockets: Socket[] = [];
  readonly #server = createServer((client) => this.#relay(client));
  #onSent = Promise.withResolvers<void>();

  private constructor(to: string) {
    this.#to = to;
  }

  /** Relays to the server at a socket until the end of the test. */
  static async start(
    t: TestContext,
    { socketPath }: { readonly socketPath: string },
  ): Promise<BreakableRelay> {
    const relay = new BreakableRelay(socketPath);
    mkdirSync(dirname(relay.socketPath), { recursive: true });
    relay.#server.listen(relay.socketPath);
    await once(relay.#server, "listening");
    t.after(() => {
      relay.#server.close();
      for (const socket of relay.#sockets) socket.destroy();
      rmSync(relay.home, { recursive: true });
    });
    return relay;
  }

  /** Resolves when clients have sent at least so many bytes. */
  async sent(bytes: number): Promise<void> {
    while (this.sentBytes < bytes) await this.#onSent.promise;
  }

  #relay(client: Socket): void {
    const server = connect(this.#to);
    this.#sockets.push(client, server);
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
    client.on("data", (chunk: Buffer) => {
      this.sentBytes += chunk.length;
      this.#onSent.resolve();
      this.#onSent = Promise.withResolvers();
      if (this.instead !== undefined) return void client.end(this.instead);
      if (!this.isSilent) server.write(chunk);
    });
    let bodyBytes: number | undefined; // Undefined in the headers, which come in one piece.
    server.on("data", (chunk: Buffer) => {
      if (this.isSilent) return;
      const bodyStart = bodyBytes === undefined ? chunk.indexOf(HEADERS_END) + HEADERS_END.length : 0;
      const left = this.bodyLimit === undefined ? Infinity : this.bodyLimit.bytes - (bodyBytes ?? 0);
      bodyBytes = (bodyBytes ?? 0) + chunk.length - bodyStart;
      const isOver = chunk.length - bodyStart > left;
      client.write(isOver ? chunk.subarray(0, bodyStart + left) : chunk, () => {
        if (isOver && this.bodyLimit?.cut === true) client.destroy();
      });
      if (isOver) server.destroy();
    });
  }
}
