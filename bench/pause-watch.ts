/**
 * Measures how long a VM is paused, as something outside of it sees: a process in the guest sends a datagram to this one
 * every few milliseconds, and what counts is the longest time without any. The guest's own clock would not do,
 * because it is paused with the guest; and the agent's channel would not, because hearthd is busy at that moment.
 */
import { createSocket } from "node:dgram";
import type { Socket } from "node:dgram";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { HearthHome } from "./hearth-home.ts";

const LOOPBACK = "127.0.0.1";
/** The port of the guest that is published. */
const GUEST_PORT = 9;
const FIRST_TICK_MS = 30_000;
/** For the tick that ends a pause which began just before the work was done. */
const LAST_TICK_MS = 1_000;
const POLL_MS = 5;

/** For a VM with `watchFlags`. Its copies tick, too, and are not heard: they have no published port. */
export class PauseWatch implements Disposable {
  readonly #socket: Socket;
  #ticksMs: number[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("message", () => this.#ticksMs.push(performance.now()));
  }

  /** Resolves when the VM ticks, whose port is published at `port` of the host. */
  static async start(home: HearthHome, vm: string, port: number): Promise<PauseWatch> {
    const socket = createSocket("udp4");
    const watch = new PauseWatch(socket);
    socket.connect(port, LOOPBACK);
    await once(socket, "connect");
    socket.on("error", () => {}); // Nothing listens in the guest yet.
    await home.hearth("exec", "--detach", vm, "--", "perl", "-e", TICK_PROGRAM);
    const asking = setInterval(() => socket.send("go"), POLL_MS);
    await watch.#untilTick(0, FIRST_TICK_MS).finally(() => clearInterval(asking));
    return watch;
  }

  /** Resolves with the longest pause, in milliseconds, while `work` was done. */
  async during(work: () => Promise<unknown>): Promise<number> {
    this.#ticksMs = this.#ticksMs.slice(-1);
    await work();
    await this.#untilTick(this.#ticksMs.length, LAST_TICK_MS);
    return longestGap(this.#ticksMs);
  }

  /** The guest's process ends with its VM. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }

  async #untilTick(before: number, deadlineMs: number): Promise<void> {
    const lateMs = performance.now() + deadlineMs;
    while (this.#ticksMs.length <= before) {
      if (performance.now() > lateMs) throw new Error(`The VM did not tick for ${deadlineMs} ms.`);
      await sleep(POLL_MS);
    }
  }
}

/** Returns the longest gap between times in ascending order; 0 for fewer than two. */
export function longestGap(times: readonly number[]): number {
  return Math.max(0, ...times.slice(1).map((time, index) => time - (times[index] ?? time)));
}

/** Sends to the first that has asked. An emulated guest has a timer tick every 4 ms at best. */
const TICK_PROGRAM = [
  "use IO::Socket::INET; use Time::HiRes;",
  `my $port = IO::Socket::INET->new(Proto => "udp", LocalPort => ${GUEST_PORT}) or die; $port->recv(my $asked, 9);`,
  'while (1) { $port->send("x"); Time::HiRes::usleep(1000) }',
].join(" ");

/** Finds a free port of the host, and returns it with the flags of a VM that is watched there. */
export async function watchFlags(): Promise<{ readonly port: number; readonly flags: readonly string[] }> {
  const socket = createSocket("udp4").bind(0, LOOPBACK);
  await once(socket, "listening");
  const { port } = socket.address();
  socket.close();
  await once(socket, "close");
  return { port, flags: ["--publish", `${port}:${GUEST_PORT}/udp`] };
}
