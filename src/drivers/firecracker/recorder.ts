/**
 * Records what a Firecracker writes: the guest's console in a bounded file, its log in `vmm.log` together with its
 * launcher's output, its metrics as sums. Firecracker never waits for hearthd, and hearthd keeps none of the text in
 * memory.
 */
import type { Socket } from "node:net";
import { join } from "node:path";
import { FIRECRACKER_FILES, VM_NAMES } from "#base/file-names.ts";
import { TokenBucket } from "#base/token-bucket.ts";
import { addMetrics, parseMetrics } from "#drivers/firecracker/metrics.ts";
import type { FirecrackerMetrics } from "#drivers/firecracker/metrics.ts";
import type { FirecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { VmmLog } from "#drivers/firecracker/vmm-log.ts";
import { recordStream } from "#drivers/record-stream.ts";
import type { StreamRecorder } from "#drivers/record-stream.ts";
import { readFifo } from "#host/fifo.ts";

export type RecorderOptions = {
  readonly files: FirecrackerFiles;
  /** The directory of `console.log` and `vmm.log`. */
  readonly stateDir: string;
  readonly logMaxBytes: number;
  /** True when the guest has run before without a recorder. */
  readonly resumed: boolean;
  readonly onTrouble: (path: string, error: unknown) => void;
};

/** A line of metrics has some 10 kB. A longer one, or more lines than this, is a VMM that was taken over. */
const METRICS_MAX_CHARS = 256 * 1024;
const METRICS_PER_S = 20;
const METRICS_BURST = 200;

/** Reads the three pipes of one Firecracker from its construction until `stop`, or until the VMM ends. */
export class FirecrackerRecorder {
  /** The sum of all lines of metrics since the recorder was opened. */
  metrics: FirecrackerMetrics | undefined;
  /** Resolves when the VMM has closed its console, which it does when it ends. */
  readonly ended: Promise<void>;
  readonly #console: StreamRecorder;
  readonly #log: Socket;
  readonly #vmmLog: VmmLog;
  readonly #metricsPipe: Socket;
  readonly #metricsBucket = new TokenBucket({ perS: METRICS_PER_S, burst: METRICS_BURST });
  #nextMetrics = Promise.withResolvers<void>();
  #troubled = false;

  /** Opens the pipes and files. @throws the system's error when one cannot be opened; nothing stays open then */
  constructor(options: RecorderOptions) {
    const { files, stateDir, logMaxBytes, resumed, onTrouble } = options;
    using opened = new DisposableStack();
    const open = (path: string): Socket => opened.adopt(readFifo(path), (pipe) => pipe.destroy());
    this.#log = open(files.log);
    this.#metricsPipe = open(files.metrics);
    const consoleLog = join(stateDir, VM_NAMES.console);
    this.#console = recordStream(open(files.console), consoleLog, {
      maxBytes: logMaxBytes,
      resumed,
      onTrouble,
    });
    this.ended = this.#console.ended;
    opened.move();
    this.#vmmLog = new VmmLog(join(stateDir, VM_NAMES.vmmLog), { maxBytes: logMaxBytes, onTrouble });
    eachChunk(this.#log, (chunk) => this.#vmmLog.append(chunk));
    eachLine(this.#metricsPipe, (line) => this.#take(line, onTrouble));
  }

  /** Resolves when the next line of metrics has been added. */
  get nextMetrics(): Promise<void> {
    return this.#nextMetrics.promise;
  }

  /** Stops recording; the VMM does not notice. Idempotent. */
  stop(): void {
    this.#console.stop();
    this.#log.destroy();
    this.#vmmLog.end();
    this.#metricsPipe.destroy();
  }

  #take(line: string, onTrouble: RecorderOptions["onTrouble"]): void {
    if (!this.#metricsBucket.take()) return;
    try {
      const metrics = parseMetrics(line);
      this.metrics = this.metrics === undefined ? metrics : addMetrics(this.metrics, metrics);
      this.#troubled = false;
    } catch (error) {
      if (!this.#troubled) onTrouble(FIRECRACKER_FILES.metrics, error);
      this.#troubled = true;
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
    waiting = (lines.pop() ?? "").slice(-METRICS_MAX_CHARS);
    for (const line of lines) if (line !== "") take(line);
  });
}
