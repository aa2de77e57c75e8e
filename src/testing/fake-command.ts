import type { WebSocket } from "ws";
import { CHANNEL } from "#api/exec-stream.ts";
import type { ClientMessage, ServerMessage } from "#api/exec-stream.ts";
import type { Exec, Vm } from "#api/wire.ts";
import type { FakeApi } from "#testing/fake-api.ts";

/**
 * A command in a VM of a fake hearthd: `cat`, `echo WORD…`, `complain WORD…`, `exit N`, `kill N`, `wait`, `deaf`,
 * `flood BYTES`, `size`, `missing`, `never`.
 */
export class FakeCommand {
  readonly #api: FakeApi;
  readonly #socket: WebSocket;
  readonly #exec: Exec;
  readonly #onChange: () => void;
  #over = false;

  constructor(api: FakeApi, socket: WebSocket, exec: Exec, onChange: () => void) {
    this.#api = api;
    this.#socket = socket;
    this.#exec = exec;
    this.#onChange = onChange;
    socket.on("message", (payload: Buffer, isBinary: boolean) => this.#take(payload, isBinary));
    socket.on("close", () => {
      if (!this.#over) api.abandoned++;
      onChange();
    });
  }

  send(message: ServerMessage): void {
    this.#socket.send(JSON.stringify(message));
  }

  boot(vm: Vm): void {
    this.send({ type: "vm", id: vm.id, name: vm.name });
    this.send({ type: "progress", progress: { stage: "boot", text: "waiting for the agent" } });
    if (this.#exec.detach !== true) return;
    this.send({ type: "exit", code: 0, timedOut: false });
    this.#over = true;
  }

  start(): void {
    if (this.#over) return this.#socket.close();
    const [name = "", ...args] = this.#exec.argv;
    if (name === "missing") {
      this.send({
        type: "error",
        error: { code: "exec.not_found", message: "missing: not found in the VM." },
      });
      this.#over = true;
      return this.#socket.close();
    }
    if (name === "never") return; // Boots for ever.
    this.send({ type: "started", pid: 42 });
    if (name === "echo") this.#say(CHANNEL.stdout, `${args.join(" ")}\n`);
    if (name === "wait") this.#say(CHANNEL.stdout, "waiting\n");
    if (name === "complain") this.#say(CHANNEL.stderr, `${args.join(" ")}\n`);
    if (name === "flood") this.#flood(Number(args[0]));
    if (name === "size") this.#say(CHANNEL.stdout, JSON.stringify(this.#exec.tty ?? null));
    if (name === "kill") return this.exit(128 + Number(args[0]), Number(args[0]));
    if (name === "cat" && this.#exec.stdin !== true) return this.exit(0);
    if (this.#exec.detach !== true && !["cat", "wait", "deaf"].includes(name))
      this.exit(name === "exit" ? Number(args[0]) : 0);
  }

  exit(code: number, signal?: number): void {
    this.#over = true;
    this.send({ type: "exit", code, timedOut: false, ...(signal !== undefined && { signal }) });
    this.#socket.close();
  }

  #flood(bytes: number): void {
    const chunk = Buffer.alloc(64 * 1024, "x");
    chunk[0] = CHANNEL.stdout;
    for (let left = bytes; left > 0; left -= chunk.byteLength - 1) {
      this.#socket.send(chunk.subarray(0, Math.min(left + 1, chunk.byteLength)));
    }
  }

  #take(payload: Buffer, isBinary: boolean): void {
    if (!isBinary) this.#control(JSON.parse(payload.toString()) as ClientMessage);
    else if (payload[0] === CHANNEL.stdin) this.#stdin(payload.subarray(1));
    this.#onChange();
  }

  #control(message: ClientMessage): void {
    if (message.type === "resize") this.#api.resizes.push({ rows: message.rows, cols: message.cols });
    if (message.type !== "signal") return;
    this.#api.signals.push(message.signal);
    const numbers: Readonly<Record<string, number>> = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 };
    const number = numbers[message.signal];
    if (this.#exec.argv[0] === "wait" && number !== undefined) this.exit(128 + number, number);
  }

  #stdin(bytes: Buffer): void {
    this.#api.stdinBytes += bytes.byteLength;
    if (this.#exec.argv[0] === "deaf") return;
    if (bytes.byteLength === 0) return this.exit(0);
    if (this.#exec.argv[0] === "cat") this.#say(CHANNEL.stdout, bytes);
    this.send({ type: "ack", bytes: bytes.byteLength });
  }

  #say(channel: number, bytes: string | Buffer): void {
    this.#socket.send(Buffer.concat([Uint8Array.of(channel), Buffer.from(bytes)]));
  }
}
