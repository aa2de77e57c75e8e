/** Downloads over HTTP that end: limits for bytes, total time, time without a byte, and redirects. */
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { HearthError, toError } from "#base/error.ts";
import { formatDurationRounded } from "#base/durations.ts";
import type { FileHash } from "#host/hash-file.ts";

export type DownloadOptions = {
  /** A larger file is refused. */
  readonly maxBytes: number;
  /** The time for the whole download. */
  readonly deadlineMs: number;
  /** The time without a single byte. */
  readonly stallMs: number;
  /** Called at most every 512 KiB, and at the end. */
  readonly onBytes?: ((doneBytes: number, totalBytes: number | undefined) => void) | undefined;
};

const REDIRECTS_MAX = 5;
const REPORT_BYTES = 512 * 1024;
/** Node's fetch would unpack a compressed answer, but the hash is that of the file as it is. */
const HEADERS = { "accept-encoding": "identity", "user-agent": "hearth" };
const LOOPBACK = new Set(["localhost", "127.0.0.1", "[::1]"]);

/**
 * Tells whether a file may come from this URL: by HTTPS, or by HTTP from this machine. Whoever can change a file on its
 * way can change its checksum, too.
 */
export function isSafeSource(url: URL): boolean {
  return url.protocol === "https:" || (url.protocol === "http:" && LOOPBACK.has(url.hostname));
}

/**
 * Downloads to `path`, which must not exist yet, and syncs it. After a failure the caller removes the partial file.
 * Rejects with the signal's reason when aborted.
 * @throws HearthError `download.failed`
 */
export async function downloadFile(
  url: string,
  path: string,
  options: DownloadOptions,
  signal: AbortSignal,
): Promise<FileHash> {
  const hash = createHash("sha256");
  let sizeBytes = 0;
  await using file = await open(path, "wx", 0o600);
  await receive(url, options, signal, async (chunk) => {
    hash.update(chunk);
    sizeBytes += chunk.length;
    await file.writeFile(chunk);
  });
  await file.sync();
  return { sha256: hash.digest("hex"), sizeBytes };
}

/**
 * Downloads a short text; keep `maxBytes` small.
 * @throws HearthError `download.failed`
 */
export async function downloadText(
  url: string,
  options: DownloadOptions,
  signal: AbortSignal,
): Promise<string> {
  const chunks: Uint8Array[] = [];
  await receive(url, options, signal, async (chunk) => void chunks.push(chunk));
  return Buffer.concat(chunks).toString("utf8");
}

/**
 * Follows redirects until `isEnd` accepts an address, which is not requested itself.
 * @throws HearthError `download.failed`, also if the redirects end earlier
 */
export async function followRedirects(
  url: string,
  isEnd: (url: URL) => boolean,
  options: DownloadOptions,
  signal: AbortSignal,
): Promise<URL> {
  using watch = new Watch(url, options, signal);
  return watch.guard(async () => {
    const { end, response } = await follow(new URL(url), isEnd, watch);
    await response?.body?.cancel();
    if (response !== undefined) throw new Error(`it redirected to ${end.href}, which is not allowed`);
    return end;
  });
}

async function receive(
  url: string,
  options: DownloadOptions,
  signal: AbortSignal,
  take: (chunk: Uint8Array) => Promise<void>,
): Promise<void> {
  using watch = new Watch(url, options, signal);
  await watch.guard(async () => {
    const { response } = await follow(new URL(url), () => false, watch);
    if (response?.body == null) throw new Error("the response is empty");
    const length = Number(response.headers.get("content-length") ?? Number.NaN);
    const totalBytes = Number.isNaN(length) ? undefined : length;
    if ((totalBytes ?? 0) > options.maxBytes) throw tooLarge(options.maxBytes);
    let doneBytes = 0;
    let toldBytes = 0;
    for await (const chunk of response.body) {
      watch.feed();
      doneBytes += chunk.length;
      if (doneBytes > options.maxBytes) throw tooLarge(options.maxBytes);
      await take(chunk);
      if (doneBytes - toldBytes < REPORT_BYTES) continue;
      toldBytes = doneBytes;
      options.onBytes?.(doneBytes, totalBytes);
    }
    options.onBytes?.(doneBytes, totalBytes);
  });
}

type Followed = { readonly end: URL; readonly response: Response | undefined };

async function follow(start: URL, isEnd: (url: URL) => boolean, watch: Watch): Promise<Followed> {
  let at = start;
  for (let redirects = 0; redirects <= REDIRECTS_MAX; redirects++) {
    if (!isSafeSource(at)) throw new Error(`${at.href} is neither HTTPS nor local`);
    // A page on the net must not lead to a server on this machine.
    if (LOOPBACK.has(at.hostname) && !LOOPBACK.has(start.hostname))
      throw new Error(`it redirects to this machine, ${at.href}`);
    const response = await fetch(at, { redirect: "manual", signal: watch.signal, headers: HEADERS });
    watch.feed();
    const location = response.headers.get("location");
    const isRedirect = response.status >= 300 && response.status < 400 && location !== null;
    if (!isRedirect) {
      if (response.ok) return { end: at, response };
      await response.body?.cancel();
      throw new Error(`the response is ${response.status} ${response.statusText}`.trim());
    }
    await response.body?.cancel();
    at = new URL(location, at);
    if (isEnd(at)) return { end: at, response: undefined };
  }
  throw new Error(`it redirects more than ${REDIRECTS_MAX} times`);
}

function tooLarge(maxBytes: number): Error {
  return new Error(`it has more than ${maxBytes} bytes`);
}

/** Ends a download that takes too long or stalls, and says which it was. */
class Watch implements Disposable {
  readonly signal: AbortSignal;
  readonly #url: string;
  readonly #caller: AbortSignal;
  readonly #late = new AbortController();
  readonly #deadline: NodeJS.Timeout;
  readonly #stall: NodeJS.Timeout;

  constructor(url: string, options: DownloadOptions, caller: AbortSignal) {
    this.#url = url;
    this.#caller = caller;
    this.signal = AbortSignal.any([caller, this.#late.signal]);
    const { deadlineMs, stallMs } = options;
    const end = (why: string): void => this.#late.abort(new Error(why));
    this.#deadline = setTimeout(end, deadlineMs, `it took longer than ${formatDurationRounded(deadlineMs)}`);
    this.#stall = setTimeout(end, stallMs, `no data arrived for ${formatDurationRounded(stallMs)}`);
  }

  /** Restarts the stall timer: data has arrived. */
  feed(): void {
    this.#stall.refresh();
  }

  async guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      this.#caller.throwIfAborted();
      // Errors of the disk are no download errors. fetch wraps those of sockets, so only the disk's have a syscall.
      if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error;
      const cause: unknown = this.#late.signal.aborted ? this.#late.signal.reason : networkCause(error);
      const hint =
        "Check the network, and try again; docs/configuration.md says how to use a proxy or mirror.";
      throw new HearthError("download.failed", `${this.#url} could not be downloaded`, { hint, cause });
    } finally {
      // Closes connections that are still open.
      this.#late.abort(new Error(`the download is over`));
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#deadline);
    clearTimeout(this.#stall);
  }
}

/** fetch throws "fetch failed" or "terminated"; the actual error is its cause. */
function networkCause(thrown: unknown): Error {
  const error = toError(thrown);
  return error instanceof TypeError && error.cause !== undefined ? toError(error.cause) : error;
}
