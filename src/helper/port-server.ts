/**
 * The helper's end of the privileged port: does what the calls on a stream ask, and trusts none of them.
 *
 *   1. Reads lines one by one, and none while the peer does not read its answers.
 *   2. Ends the connection for an invalid message, a line that is too long, and a call whose id does not grow.
 *   3. Answers an unknown verb, arguments that its schema refuses, and a call over the limit with an error.
 *   4. Aborts calls under way when the connection ends, and ends a VMM that was launched meanwhile, which hearthd
 *      cannot know of. All other VMMs run on.
 */
import type { Duplex } from "node:stream";
import { within } from "#base/deadline.ts";
import { errorBody, HearthError } from "#base/error.ts";
import { parseJson, readLines } from "#helper/message-lines.ts";
import { CALL_MAX_BYTES, CALLS_MAX, parseRequest, parseWith, WIRE_VERBS } from "#helper/port-wire.ts";
import type { Answer, CallContext, LaunchedRef, Request, VerbName, WireVerb } from "#helper/port-wire.ts";
import type { PrivilegedPort } from "#helper/privileged-port.ts";
import { endProcess } from "#host/process-end.ts";
import type { ChildExit } from "#jail/vmm-launch.ts";

/** The time for aborted calls to end. A verb that takes longer is left as after a crash. */
const END_DEADLINE_MS = 10_000;

type Launched = { readonly vmm: LaunchedRef; readonly exit: Promise<ChildExit> };

/**
 * Serves one connection. Resolves when it has ended and no call is under way. Never rejects.
 * @param onTrouble gets the reason why the connection was ended, and errors that no verb foresaw
 */
export async function servePort(
  port: PrivilegedPort,
  stream: Duplex,
  onTrouble: (error: unknown) => void,
): Promise<void> {
  await new PortServer(port, stream, onTrouble).serve();
}

class PortServer {
  readonly #port: PrivilegedPort;
  readonly #stream: Duplex;
  readonly #onTrouble: (error: unknown) => void;
  readonly #aborts = new Map<number, AbortController>();
  readonly #running = new Set<Promise<void>>();
  #lastCall = 0;
  #hasEnded = false;

  constructor(port: PrivilegedPort, stream: Duplex, onTrouble: (error: unknown) => void) {
    this.#port = port;
    this.#stream = stream;
    this.#onTrouble = onTrouble;
    stream.on("error", () => {}); // Reading ends with the same error.
  }

  async serve(): Promise<void> {
    try {
      for await (const line of readLines(this.#stream, CALL_MAX_BYTES)) {
        this.#take(parseRequest(parseJson(line)));
        await this.#drained();
      }
    } catch (error) {
      if (!isDisconnect(error)) this.#onTrouble(error);
    }
    this.#hasEnded = true;
    this.#stream.destroy();
    for (const abort of this.#aborts.values()) abort.abort(cancelled());
    await within(Promise.allSettled(this.#running), END_DEADLINE_MS);
  }

  #take(request: Request): void {
    if ("abort" in request) {
      this.#aborts.get(request.abort)?.abort(cancelled()); // A call that has ended needs no abort.
      return;
    }
    const { call } = request;
    if (call <= this.#lastCall)
      throw new HearthError("input.invalid", `The id ${call} of a call follows ${this.#lastCall}.`);
    this.#lastCall = call;
    const abort = new AbortController();
    const isAdmitted = this.#aborts.size < CALLS_MAX;
    if (isAdmitted) this.#aborts.set(call, abort);
    const answered = isAdmitted
      ? this.#answer(request, abort.signal).finally(() => this.#aborts.delete(call))
      : Promise.resolve(this.#send({ call, error: errorBody(tooMany()) }));
    this.#running.add(answered);
    void answered.finally(() => this.#running.delete(answered));
  }

  async #answer(
    { call, verb, args }: Extract<Request, { verb: string }>,
    signal: AbortSignal,
  ): Promise<void> {
    let launched: Launched | undefined;
    const onLaunch: CallContext["onLaunch"] = (vmm, exit) => void (launched = { vmm, exit });
    try {
      const result = await this.#run(verb, args, { signal, onLaunch });
      this.#send({ call, result });
      if (launched !== undefined) await this.#launched(call, launched);
    } catch (error) {
      const { code, message, hint } = errorBody(error);
      if (code === "internal.bug") this.#onTrouble(error);
      this.#send({ call, error: { code, message, hint } });
    }
  }

  async #run(name: string, given: readonly unknown[], context: CallContext): Promise<unknown> {
    if (!Object.hasOwn(WIRE_VERBS, name))
      throw new HearthError("input.invalid", `${JSON.stringify(name)} is not a verb of the helper.`);
    const verb = WIRE_VERBS[name as VerbName] as WireVerb;
    const args = parseWith(verb.args, given, `The call of ${name}`);
    return verb.run(this.#port, args, context);
  }

  /**
   * Reports the VMM's exit when it has ended. Ends the VMM if the connection has ended, since hearthd cannot know that
   * it was launched.
   */
  async #launched(call: number, { vmm, exit }: Launched): Promise<void> {
    if (this.#hasEnded && vmm.process !== undefined)
      await endProcess(vmm.process, 0, new AbortController().signal);
    else void exit.then(({ code, signal }) => this.#send({ exit: call, code, signal }));
  }

  #send(answer: Answer): void {
    if (!this.#hasEnded) this.#stream.write(`${JSON.stringify(answer)}\n`);
  }

  async #drained(): Promise<void> {
    if (!this.#stream.writableNeedDrain) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const events = ["drain", "close"] as const;
    for (const event of events) this.#stream.on(event, resolve);
    await promise;
    for (const event of events) this.#stream.off(event, resolve);
  }
}

function tooMany(): HearthError {
  return new HearthError("operation.too_many", `More than ${CALLS_MAX} calls of the helper are in progress.`);
}

function cancelled(): HearthError {
  return new HearthError("operation.cancelled", "The call of the helper was cancelled.");
}

/** Tells whether the peer has closed the connection, in order or not. */
function isDisconnect(error: unknown): boolean {
  const { code = "" } = error as NodeJS.ErrnoException;
  return ["ERR_STREAM_PREMATURE_CLOSE", "ECONNRESET", "EPIPE"].includes(code);
}
