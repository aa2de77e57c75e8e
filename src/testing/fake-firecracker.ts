/** Firecracker's API socket, where a test decides what is answered and sees what was asked. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type AskedRequest = {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** As it came, before anybody read it as JSON. */
  readonly text: string;
};

export type FakeAnswer = (request: AskedRequest, response: ServerResponse) => void;

/** Answers as Firecracker does to requests that it took: 204 without a body, and an object to each GET. */
export const accept: FakeAnswer = ({ method, path }, response) => {
  if (method !== "GET") return void response.writeHead(204).end();
  answerJson(response, 200, path === "/version" ? versionAnswer("1.17.0") : {});
};

export function versionAnswer(version: string): object {
  return { firecracker_version: version };
}

/** With a length, as Firecracker answers. */
export function answerJson(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
  response.writeHead(status, headers).end(text);
}

/** Listens as soon as `start` resolves. */
export class FakeFirecracker implements AsyncDisposable {
  readonly #dir = mkdtempSync(join(tmpdir(), "fc-"));
  readonly socketPath = join(this.#dir, "api.sock");
  readonly asked: AskedRequest[] = [];
  /** May be changed between requests. */
  answer: FakeAnswer;
  readonly #server: Server;

  constructor(answer: FakeAnswer = accept) {
    this.answer = answer;
    this.#server = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on("data", (chunk: Buffer) => chunks.push(chunk));
      request.on("end", () => {
        const { method = "", url: path = "", headers } = request;
        const asked = { method, path, headers, text: Buffer.concat(chunks).toString() };
        this.asked.push(asked);
        this.answer(asked, response);
      });
    });
  }

  static async start(answer: FakeAnswer = accept): Promise<FakeFirecracker> {
    const fake = new FakeFirecracker(answer);
    await fake.listen();
    return fake;
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(this.socketPath, resolve));
  }

  /** Answers nobody any more, as one that has ended. Idempotent. */
  async stopListening(): Promise<void> {
    this.#server.closeAllConnections();
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stopListening();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
