/**
 * What a Firecracker writes: the guest's console into a bounded file, its log beside the words of its launcher,
 * its metrics into sums. It never waits for us, and we never keep what it wrote in memory. H2.
 */
import { appendFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { addMetrics, parseMetrics } from "#drivers/firecracker/metrics.ts";
import type { FirecrackerMetrics } from "#drivers/firecracker/metrics.ts";
import type { FirecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { recordStream } from "#drivers/record-stream.ts";
import type { StreamRecorder } from "#drivers/record-stream.ts";
import { truncateWhenOver } from "#host/bounded-file.ts";
import { readFifo } from "#host/fifo.ts";

export type RecorderOptions = {
  readonly files: FirecrackerFiles;
  /** With `console.log` and `vmm.log`. */
  readonly stateDir: string;
  readonly logMaxBytes: number;
  /** The guest has run before without a reader. */
  readonly resumed: boolean;
  readonly onTrouble: (path: string, error: unknown) => void;
};

/** Longer lines are a Firecracker that has gone mad. */
const LINE_MAX_CHARS = 256 * 1024;

/** Firecracker tells of each request that it got and has answered; ours are a heartbeat's, mostly. */
const OF_OURS = /:fc_api:INFO\] The (API server received|request was executed successfully)/;
/** What a rate limit does to a large request is no error, though Firecracker says so of each. */
const OF_A_LIMIT = /Consumed \d+ tokens from bucket of size \d+/;

export class FirecrackerRecorder {
  /** The sum of all lines of metrics since we read them. */
  metrics: FirecrackerMetrics | undefined;
  /** Resolves when the VMM has closed its console, which it does when it ends. */
  readonly ended: Promise<void>;
  readonly #console: StreamRecorder;
  readonly #log: Socket;
  readonly #metricsPipe: Socket;
  #nextMetrics = Promise.withResolvers<void>();

  /** @throws the system's error when a pipe or file cannot be opened; nothing stays open then. */
  constructor(options: RecorderOptions) {
    const { files, stateDir, logMaxBytes, resumed, onTrouble } = options;
    using opened = new DisposableStack();
    const open = (path: string): Socket => opened.adopt(readFifo(path), (pipe) => pipe.destroy());
    this.#log = open(files.log);
    this.#metricsPipe = open(files.metrics);
    const consoleLog = join(stateDir, "console.log");
    this.#console = recordStream(open(files.console), consoleLog, {
      maxBytes: logMaxBytes,
      resumed,
      onTrouble,
    });
    this.ended = this.#console.ended;
    opened.move();
    const vmmLog = join(stateDir, "vmm.log");
    eachLine(this.#log, (line) => {
      if (OF_OURS.test(line) || OF_A_LIMIT.test(line)) return;
      try {
        appendFileSync(vmmLog, `${line}\n`, { mode: 0o600 });
        truncateWhenOver(vmmLog, logMaxBytes);
      } catch (error) {
        onTrouble(vmmLog, error); // The VM runs all the same.
      }
    });
    eachLine(this.#metricsPipe, (line) => this.#take(line, onTrouble));
  }

  /** Resolves when the next line of metrics has been added. */
  get nextMetrics(): Promise<void> {
    return this.#nextMetrics.promise;
  }

  /** Lets go; the VMM does not notice. Idempotent. */
  stop(): void {
    this.#console.stop();
    this.#log.destroy();
    this.#metricsPipe.destroy();
  }

  #take(line: string, onTrouble: RecorderOptions["onTrouble"]): void {
    try {
      const metrics = parseMetrics(line);
      this.metrics = this.metrics === undefined ? metrics : addMetrics(this.metrics, metrics);
    } catch (error) {
      onTrouble("metrics.fifo", error);
    }
    this.#nextMetrics.resolve();
    this.#nextMetrics = Promise.withResolvers();
  }
}

function eachChunk(pipe: Socket, take: (chunk: Buffer) => void): void {
  pipe.on("data", take);
  pipe.on("error", () => {}); // "close" follows; the VMM has ended.
  pipe.unref();
}

function eachLine(pipe: Socket, take: (line: string) => void): void {
  let waiting = "";
  eachChunk(pipe, (chunk) => {
    const lines = (waiting + chunk.toString("utf8")).split("\n");
    waiting = (lines.pop() ?? "").slice(-LINE_MAX_CHARS);
    for (const line of lines) if (line !== "") take(line);
  });
}
