/** hearthd's end of the privileged port, if the helper is a separate process. */
import type { Duplex } from "node:stream";
import { HearthError, toHearthError } from "#base/error.ts";
import { Turns } from "#base/turns.ts";
import { parseJson, readLines } from "#helper/message-lines.ts";
import {
  ANSWER_MAX_BYTES,
  CALLS_MAX,
  errorFromAnswer,
  parseAnswer,
  parseWith,
  WIRE_VERBS,
} from "#helper/port-wire.ts";
import type { Answer, VerbArgs, VerbName, VerbResult, WireVerb } from "#helper/port-wire.ts";
import type { EnforcedPolicy, GuestNetwork } from "#helper/nft-program.ts";
import type { Limitations, NetworkListing, PortLaunch, PrivilegedPort } from "#helper/privileged-port.ts";
import type { CgroupLimits } from "#host/cgroup.ts";
import type { EndSignal } from "#host/process-end.ts";
import type { ProcessRef } from "#host/procfs.ts";
import type { ToolRun } from "#host/tool-sandbox.ts";
import type { FaultOptions } from "#jail/isolation-faults.ts";
import type { ChildExit, LaunchedVmm } from "#jail/vmm-launch.ts";
import type { RateLimit } from "#model/rate-limit.ts";

type Pending = { readonly resolve: (result: unknown) => void; readonly reject: (error: unknown) => void };

const { signal: never } = new AbortController();

/** Calls the helper on a stream whose other end `servePort` serves. */
export class PortClient implements PrivilegedPort {
  readonly #stream: Duplex;
  readonly #turns = new Turns(CALLS_MAX);
  readonly #pending = new Map<number, Pending>();
  /** The exits of launched VMMs, by the ids of their calls. They stay pending when the helper has ended. */
  readonly #exits = new Map<number, (exit: ChildExit) => void>();
  readonly #gone = Promise.withResolvers<HearthError>();
  #error: HearthError | undefined;
  #lastCall = 0;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on("error", () => {}); // Reading ends with the same error.
    void this.#read();
  }

  /** Resolves with the error of all further calls when the helper ends before `close` is called. */
  get gone(): Promise<HearthError> {
    return this.#gone.promise;
  }

  /** Ends the connection, and with it the helper. The VMMs run on. Idempotent. */
  close(): void {
    this.#refuse(helperGone(undefined));
  }

  async limitations(): Promise<Limitations> {
    const { uid, cgroup, network, domains } = await this.#call("limitations", []);
    return { uid, cgroup, network, domains };
  }
  leaseUid(vm: string): Promise<number | undefined> {
    return this.#call("leaseUid", [vm]);
  }
  uidOf(vm: string): Promise<number | undefined> {
    return this.#call("uidOf", [vm]);
  }
  releaseUid(vm: string, signal: AbortSignal): Promise<void> {
    return this.#call("releaseUid", [vm], signal);
  }
  listLeases(): Promise<string[]> {
    return this.#call("listLeases", []);
  }
  runTool(tool: ToolRun, signal: AbortSignal): Promise<string> {
    return this.#call("runTool", [tool], signal);
  }
  giveFiles(vm: string): Promise<void> {
    return this.#call("giveFiles", [vm]);
  }
  takeFiles(vm: string): Promise<void> {
    return this.#call("takeFiles", [vm]);
  }
  giveVolume(vm: string, volume: string): Promise<void> {
    return this.#call("giveVolume", [vm, volume]);
  }
  takeVolume(vm: string, volume: string): Promise<void> {
    return this.#call("takeVolume", [vm, volume]);
  }
  sealRunDir(vm: string): Promise<void> {
    return this.#call("sealRunDir", [vm]);
  }
  giveMemoryCopy(vm: string): Promise<void> {
    return this.#call("giveMemoryCopy", [vm]);
  }
  giveMemoryBase(vm: string): Promise<void> {
    return this.#call("giveMemoryBase", [vm]);
  }
  sealMemory(snapshot: string): Promise<void> {
    return this.#call("sealMemory", [snapshot]);
  }
  makeCgroup(vm: string, limits: CgroupLimits): Promise<string | undefined> {
    return this.#call("makeCgroup", [vm, limits]);
  }
  cgroupOf(vm: string): Promise<string | undefined> {
    return this.#call("cgroupOf", [vm]);
  }
  removeCgroup(vm: string, signal: AbortSignal): Promise<void> {
    return this.#call("removeCgroup", [vm], signal);
  }
  listCgroups(): Promise<string[]> {
    return this.#call("listCgroups", []);
  }
  makeNetwork(vm: string, network: GuestNetwork, signal: AbortSignal): Promise<void> {
    return this.#call("makeNetwork", [vm, network], signal);
  }
  setNetworkPolicy(vm: string, enforced: EnforcedPolicy, signal: AbortSignal): Promise<void> {
    return this.#call("setNetworkPolicy", [vm, enforced], signal);
  }

  setNetworkLimit(vm: string, limit: RateLimit, signal: AbortSignal): Promise<void> {
    return this.#call("setNetworkLimit", [vm, limit], signal);
  }

  readNetworkRules(vm: string, what: NetworkListing, signal: AbortSignal): Promise<string> {
    return this.#call("readNetworkRules", [vm, what], signal);
  }

  removeNetwork(vm: string, signal: AbortSignal): Promise<void> {
    return this.#call("removeNetwork", [vm], signal);
  }
  listNetworks(): Promise<string[]> {
    return this.#call("listNetworks", []);
  }
  async launchVmm(vm: string, launch: PortLaunch, signal: AbortSignal): Promise<LaunchedVmm> {
    const exit = Promise.withResolvers<ChildExit>();
    const launched = await this.#call("launchVmm", [vm, launch], signal, (call) =>
      this.#exits.set(call, exit.resolve),
    );
    return { process: launched.process, launcher: launched.launcher, exit: exit.promise };
  }
  endVmm(vm: string, vmm: ProcessRef, graceMs: number, signal: AbortSignal): Promise<EndSignal | undefined> {
    return this.#call("endVmm", [vm, vmm, graceMs], signal);
  }
  findIsolationFaults(vm: string, vmm: ProcessRef, options: FaultOptions): Promise<string[]> {
    return this.#call("findIsolationFaults", [vm, vmm, options]);
  }
  removeJail(vm: string): Promise<void> {
    return this.#call("removeJail", [vm]);
  }
  listJails(): Promise<string[]> {
    return this.#call("listJails", []);
  }

  /**
   * Calls a verb and waits for its answer, also when `signal` aborts: only the helper knows what was done by then.
   * @param onDone is called with the id of a call that has succeeded, before any later message is read
   */
  async #call<Name extends VerbName>(
    name: Name,
    args: VerbArgs<Name>,
    signal = never,
    onDone: (call: number) => void = () => {},
  ): Promise<VerbResult<Name>> {
    using _turn = await this.#turns.take(signal);
    if (this.#error !== undefined) throw this.#error;
    const call = ++this.#lastCall;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const onResult = (result: unknown): void => {
      onDone(call);
      resolve(result);
    };
    this.#pending.set(call, { resolve: onResult, reject });
    const abort = (): void => this.#send({ abort: call });
    this.#send({ call, verb: name, args });
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort, { once: true });
    try {
      const verb = WIRE_VERBS[name] as unknown as WireVerb<unknown, VerbResult<Name>>;
      return parseWith(verb.result, await promise, `The answer to ${name}`);
    } catch (error) {
      if (signal.aborted && toHearthError(error).code === "operation.cancelled") throw signal.reason;
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  async #read(): Promise<void> {
    try {
      for await (const line of readLines(this.#stream, ANSWER_MAX_BYTES))
        this.#take(parseAnswer(parseJson(line)));
      this.#lose(undefined);
    } catch (error) {
      this.#lose(error);
    }
  }

  #take(answer: Answer): void {
    if ("exit" in answer) {
      const { exit, code, signal } = answer;
      this.#exits.get(exit)?.({ code, signal });
      this.#exits.delete(exit);
      return;
    }
    const pending = this.#pending.get(answer.call);
    this.#pending.delete(answer.call);
    if (pending === undefined)
      throw new HearthError("input.invalid", `The helper answered the unknown call ${answer.call}.`);
    if ("error" in answer) pending.reject(errorFromAnswer(answer.error));
    else pending.resolve(answer.result);
  }

  #send(message: object): void {
    if (this.#error === undefined) this.#stream.write(`${JSON.stringify(message)}\n`);
  }

  #lose(cause: unknown): void {
    if (this.#error !== undefined) return;
    const error = helperGone(cause);
    this.#refuse(error);
    this.#gone.resolve(error);
  }

  #refuse(error: HearthError): void {
    this.#error ??= error;
    this.#stream.destroy();
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}

function helperGone(cause: unknown): HearthError {
  return new HearthError("host.helper_gone", "Cannot do what needs root: the helper of hearthd has ended.", {
    hint: "VMs keep running. Start the helper and hearthd again.",
    cause,
  });
}
