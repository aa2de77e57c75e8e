/**
 * Measures how long a VM is paused, as something outside of it sees: a process in the guest sends a datagram to this one
 * every few milliseconds, and what counts is the longest time without any. The guest's own clock would not do,
 * because it is paused with the guest; and the agent's channel would not, because hearthd is busy at that moment.
 */
import { createSocket } from "node:dgram";
import type { Socket } from "node:dgram";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { USER_NETWORK } from "#network/user-network.ts";
import type { HearthHome } from "./hearth-home.ts";

/** QEMU's user-mode network takes the gateway's address for the host's own loopback. */
const LOOPBACK = "127.0.0.1";
const FIRST_TICK_MS = 30_000;
/** For the tick that ends a pause which began just before the work was done. */
const LAST_TICK_MS = 1_000;
const POLL_MS = 5;

/** For a VM with a user network. Its copies tick, too, from ports of their own, and are not heard. */
export class PauseWatch implements Disposable {
  readonly #socket: Socket;
  #source: number | undefined;
  #ticksMs: number[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("message", (_bytes, { port }) => {
      this.#source ??= port;
      if (port === this.#source) this.#ticksMs.push(performance.now());
    });
  }

  /** Resolves when the VM ticks. */
  static async start(home: HearthHome, vm: string): Promise<PauseWatch> {
    const socket = createSocket("udp4");
    const watch = new PauseWatch(socket);
    socket.bind(0, LOOPBACK);
    await once(socket, "listening");
    const program = tickProgram(socket.address().port);
    await home.hearth("exec", "--detach", vm, "--", "perl", "-e", program);
    await watch.#untilTick(0, FIRST_TICK_MS);
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

/** An emulated guest wakes up every 4 ms at best. */
function tickProgram(port: number): string {
  return [
    "use IO::Socket::INET; use Time::HiRes;",
    `my $to = IO::Socket::INET->new(Proto => "udp", PeerAddr => "${USER_NETWORK.gateway}:${port}") or die;`,
    'while (1) { send($to, "x", 0); Time::HiRes::usleep(1000) }',
  ].join(" ");
}
