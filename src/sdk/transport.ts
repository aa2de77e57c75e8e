/** HTTP requests and raw connections to hearthd over its Unix socket. */
import type { ClientRequest, IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { DETACH_HEADER, OPERATION_HEADER, VERSION_HEADER } from "#api/events.ts";
import { ERROR_CODES, HearthError, toError } from "#base/error.ts";
import type { ErrorBody } from "#base/error.ts";

// An import statement has Node make each name of the module: lists of blocked addresses too, 1 ms of each command.
const { connect } = process.getBuiltinModule("node:net");

export type Query = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

export type RequestMore = {
  readonly query?: Query | undefined;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as it is, in place of `body`. */
  readonly stream?: { readonly from: Readable; readonly contentType: string } | undefined;
  /** The id that the operation gets, for following its progress. */
  readonly operation?: string | undefined;
  /** Makes hearthd answer at once with the operation, which continues without its client. */
  readonly detach?: boolean | undefined;
};

/** The limit for JSON answers. A list of 1,000 VMs takes about 1 MiB. */
const JSON_MAX_BYTES = 64 * 1024 * 1024;

const CONNECT_TRIES_MAX = 1_000;
const CONNECT_AGAIN_MS = 10;

/** Sends requests to hearthd, each on its own connection. */
export class Transport {
  readonly socketPath: string;
  /** The version of hearthd in its last answer; undefined before the first. */
  daemonVersion: string | undefined;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  /** Sends a request and returns the answer's JSON; undefined for 204. Throws as `open` does. */
  async json<Answer>(method: string, path: string, more: RequestMore, signal?: AbortSignal): Promise<Answer> {
    const response = await this.open(method, path, more, signal);
    const text = await readText(response);
    return (text === "" ? undefined : parseSent(text)) as Answer;
  }

  /**
   * Sends a request and returns the answer as a stream, if its status is 2xx.
   * @throws HearthError the error that hearthd answered; `daemon.unreachable` if there was no answer.
   */
  async open(
    method: string,
    path: string,
    more: RequestMore,
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    signal?.throwIfAborted();
    // Importing node:http statically costs 50 ms, because its named exports load fetch.
    const http = process.getBuiltinModule("node:http");
    const body = more.body === undefined ? undefined : Buffer.from(JSON.stringify(more.body));
    const socket = await this.connect(signal);
    const request = http.request({
      createConnection: () => socket,
      method,
      path: path + queryText(more.query),
      headers: {
        host: "hearthd",
        ...(body && { "content-type": "application/json", "content-length": body.byteLength }),
        // hearthd may answer before it has read the whole stream. Without keep-alive it would close then, and writing
        // would fail.
        ...(more.stream && { "content-type": more.stream.contentType, connection: "keep-alive" }),
        ...(more.operation !== undefined && { [OPERATION_HEADER]: more.operation }),
        ...(more.detach === true && { [DETACH_HEADER]: "true" }),
      },
      signal,
    });
    const response = await answerOf(request, this.socketPath, body, more.stream?.from);
    // The connection serves this one request.
    response.once("close", () => socket.destroy());
    const version = response.headers[VERSION_HEADER];
    if (typeof version === "string") this.daemonVersion = version;
    if (response.statusCode !== undefined && response.statusCode >= 200 && response.statusCode < 300)
      return response;
    more.stream?.from.unpipe(request).destroy();
    const text = await readText(response);
    throw errorFromText(text, response.statusCode ?? 0);
  }

  /** Tells whether something accepts connections on the socket. */
  answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.socketPath);
      const finish = (yes: boolean): void => {
        socket.destroy();
        resolve(yes);
      };
      socket.once("connect", () => finish(true));
      // A socket that this user may not open (EACCES), or whose backlog is full (EAGAIN), is in use all the same.
      socket.once("error", ({ code }: NodeJS.ErrnoException) =>
        finish(code === "EACCES" || code === "EAGAIN"),
      );
    });
  }

  /** Opens a raw connection. @throws HearthError `daemon.unreachable`. */
  async connect(signal?: AbortSignal): Promise<Socket> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#connectOnce();
      } catch (error) {
        // The socket's backlog is full. hearthd empties it as it accepts.
        const isFull = (error as NodeJS.ErrnoException).code === "EAGAIN" && tries < CONNECT_TRIES_MAX;
        if (!isFull) throw unreachable(this.socketPath, error);
      }
      await sleep(CONNECT_AGAIN_MS, undefined, { signal });
    }
  }

  #connectOnce(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.socketPath);
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(socket);
      });
    });
  }
}

function answerOf(
  request: ClientRequest,
  socketPath: string,
  body: Buffer | undefined,
  from: Readable | undefined,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    let isAnswered = false;
    request.on("error", (error: NodeJS.ErrnoException) => {
      from?.destroy();
      reject(error.name === "AbortError" ? error : unreachable(socketPath, error));
    });
    request.once("response", (response) => {
      isAnswered = true;
      resolve(response);
    });
    if (from === undefined) return void request.end(body);
    // A source that fails must fail the request too. Otherwise hearthd would take the part for the whole.
    const fail = (): void => {
      reject(from.errored ?? new HearthError("input.invalid", "The data to send was closed before its end."));
      request.destroy();
    };
    const broke = (): void => {
      if (!isAnswered && !from.readableEnded) fail();
    };
    if (!from.readable) return fail();
    from.on("error", broke).once("close", broke);
    from.pipe(request);
  });
}

/** Parses the body of an answer that is not 2xx. */
export function errorFromText(text: string, status: number): HearthError {
  const body = parseErrorBody(text);
  if (body !== undefined) return errorFromBody(body);
  return new HearthError("internal.bug", `hearthd answered with status ${status} and no reason.`, {
    hint: "See `hearth daemon logs`.",
  });
}

/** Restores an error that hearthd sent. A code that this version does not know becomes `internal.bug`. */
export function errorFromBody(body: ErrorBody): HearthError {
  const code = Object.hasOwn(ERROR_CODES, body.code) ? body.code : "internal.bug";
  const error = new HearthError(code, body.message, { hint: body.hint });
  return body.operation === undefined ? error : Object.assign(error, { operation: body.operation });
}

/**
 * Parses JSON from hearthd: an object or a list.
 * @throws HearthError `internal.bug`, also if something other than hearthd sent it.
 */
export function parseSent(text: string): object {
  let sent: unknown;
  try {
    sent = JSON.parse(text);
  } catch (cause) {
    throw unreadable(cause);
  }
  if (typeof sent === "object" && sent !== null) return sent;
  throw unreadable();
}

function unreadable(cause?: unknown): HearthError {
  return new HearthError("internal.bug", "hearthd sent invalid JSON.", {
    hint: "See `hearth daemon status` and `hearth daemon logs`.",
    cause,
  });
}

function parseErrorBody(text: string): ErrorBody | undefined {
  try {
    const { error } = JSON.parse(text) as { error?: Partial<ErrorBody> };
    return typeof error?.code === "string" && typeof error.message === "string"
      ? (error as ErrorBody)
      : undefined;
  } catch {
    return undefined; // Not JSON: the caller reports the text.
  }
}

/** Returns the error for a socket on which nothing answers. */
export function unreachable(socketPath: string, thrown: unknown): HearthError {
  const cause = toError(thrown);
  const { code } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT" || code === "ECONNREFUSED") {
    return new HearthError("daemon.unreachable", `hearthd is not running: nothing listens at ${socketPath}`, {
      hint: "Start it: `hearth daemon start`.",
      cause,
    });
  }
  if (code === "EACCES" || code === "EPERM") {
    return new HearthError(
      "daemon.unreachable",
      `The socket of hearthd, ${socketPath}, belongs to another user`,
      {
        hint: "Use the account that started hearthd, or set HEARTH_HOME to your own directory.",
        cause,
      },
    );
  }
  return new HearthError("daemon.unreachable", "The connection to hearthd broke", {
    hint: "See `hearth daemon status` and `hearth daemon logs`.",
    cause,
  });
}

async function readText(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      bytes += chunk.byteLength;
      if (bytes > JSON_MAX_BYTES)
        throw new HearthError("internal.bug", "The response of hearthd is too long.");
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof HearthError) throw error;
    throw new HearthError("daemon.unreachable", "hearthd ended its response too early", {
      cause: error,
    });
  }
  return Buffer.concat(chunks).toString();
}

function queryText(query: Query | undefined): string {
  const pairs = Object.entries(query ?? {}).flatMap(([name, value]) =>
    (value === undefined ? [] : [value].flat()).map((one) => `${name}=${encodeURIComponent(String(one))}`),
  );
  return pairs.length === 0 ? "" : `?${pairs.join("&")}`;
}
