/** The guest of a fake VMM: it obeys, and keeps in its memory what a real one would. */
import { HearthError } from "#base/error.ts";
import type { Guest } from "#daemon/host.ts";
import type { GuestPort } from "#model/guest-port.ts";
import type { AgentAddress } from "#model/vm-handle.ts";
import { findDisk } from "#storage/disk-layout.ts";
import { readFakeDisk, writeFakeDisk } from "#testing/fake-disks.ts";
import { ENDLESS, GuestCommand, untilAborted } from "#testing/guest-command.ts";
import type { FakeVmm, FakeVmms } from "#testing/fake-vmms.ts";
import type { Gate } from "#testing/gate.ts";
import type { Life } from "#testing/life.ts";

/** The port of a fake guest that echoes, as RFC 862 has it. Nothing listens at others. */
export const ECHO_PORT = 7;

const ECHO_SERVER: GuestPort = {
  protocol: "tcp",
  address: "127.0.0.1",
  port: ECHO_PORT,
  pid: 7,
  program: "echo",
  user: "root",
};

/** The next faults in any guest; each is used up by the call that it breaks. */
export type GuestFaults = {
  /** The ports that the guest lists; by default, its echo server. */
  ports?: readonly GuestPort[] | undefined;
  /** The number of attempts to reach an agent that fail. */
  unreachable?: number;
  /** The number of attempts to reach the agent that fail in a guest whose own init runs. */
  unreachableAfterInit?: number;
  freezeError?: Error | undefined;
  thawError?: Error | undefined;
  configureError?: Error | undefined;
  /** The warnings with which every `configure` answers. */
  warnings?: readonly string[] | undefined;
  /** The error of the next command. */
  exitCode?: number | undefined;
  /**
   * Calls on an existing connection are not answered from now on; with `guest`, new connections are not answered
   * either. No error is reported: a caller waits until its own deadline.
   */
  silent?: "connection" | "guest" | undefined;
  /** A command never starts, in a guest that answers all other calls. */
  neverStarts?: boolean | undefined;
  /** Delays the next shutdown, before it has done anything. */
  shutdownGate?: Gate | undefined;
  /** Commands that run, as reported by `info`. */
  execs?: number | undefined;
};

type Part = Pick<
  Guest,
  | "info"
  | "configure"
  | "exec"
  | "signalExec"
  | "resizeExec"
  | "readTar"
  | "writeTar"
  | "dial"
  | "listPorts"
  | "freeze"
  | "thaw"
  | "shutdown"
  | "close"
  | "closed"
>;

/** The agent behind this socket. A VM that does not run does not answer, which is an error at once here. */
export function fakeGuest(vmms: FakeVmms, address: AgentAddress, faults: GuestFaults, life: Life): Guest {
  const closed = Promise.withResolvers<Error | undefined>();
  const { resets } = answeringVmm(vmms, address);
  const find = (): FakeVmm => {
    const vmm = answeringVmm(vmms, address);
    // No agent is left to answer on this connection.
    if (address.agentVsockPort !== undefined && vmm.resets !== resets) throw unreachable();
    return vmm;
  };
  const call = (what: string): FakeVmm => {
    life.assertAlive();
    const vmm = find();
    vmm.guest.calls.push(what);
    return vmm;
  };
  const answers = voiceOf(faults);
  const part: Part = {
    info: (signal) => answers(signal).then(() => infoOf(find(), faults)),
    configure: async ({ hostname, machineId, entropy, restored }, signal) => {
      await answers(signal);
      const vmm = call(restored ? "configure restored" : "configure");
      spoil(faults, "configureError");
      const { guest } = vmm;
      if (writtenOn(vmm) !== guest.written)
        throw new HearthError("agent.failed", "The guest's memory does not fit its disk.");
      Object.assign(guest, { hostname, machineId, entropy: entropy.join(), frozen: false });
      life.did("guest.configure");
      return { warnings: faults.warnings ?? [], initFollows: initFollows(vmm) };
    },
    ...commandCalls(vmms, call, answers, faults),
    ...copyCalls(call, answers, faults),
    freeze: async ({ flush }, signal) => {
      await answers(signal);
      const { guest } = call(flush ? "freeze flush" : "freeze");
      spoil(faults, "freezeError"); // After a failure nothing is frozen.
      guest.frozen = true;
      life.did("guest.freeze");
      return [];
    },
    thaw: async (_unixTimeMs, signal) => {
      await answers(signal);
      const { guest } = call("thaw");
      spoil(faults, "thawError");
      guest.frozen = false;
      life.did("guest.thaw");
      return [];
    },
    shutdown: async (_how, signal) => {
      await answers(signal);
      await passGate(faults, signal);
      vmms.end(call("shutdown"), { reason: "guest", code: 0, atMs: Date.now() });
      life.did("guest.shutdown");
    },
    close: () => hangUp(vmmAt(vmms, address), closed.resolve),
    closed: closed.promise,
  };
  return part as Guest;
}

async function passGate(faults: GuestFaults, signal: AbortSignal): Promise<void> {
  const gate = faults.shutdownGate;
  delete faults.shutdownGate;
  await gate?.pass(signal);
}

function spoil(faults: GuestFaults, what: "freezeError" | "thawError" | "configureError"): void {
  const error = faults[what];
  delete faults[what];
  if (error !== undefined) throw error;
}

/** Makes the answers of a connection: once it is silent, it stays so. Resolves when the agent answers. */
function voiceOf(faults: GuestFaults): (signal: AbortSignal) => Promise<void> {
  let isSilent = false;
  return async (signal) => {
    isSilent ||= faults.silent !== undefined;
    if (isSilent) await untilAborted(signal);
  };
}

function commandCalls(
  vmms: FakeVmms,
  call: (what: string) => FakeVmm,
  answers: (signal: AbortSignal) => Promise<void>,
  faults: GuestFaults,
): Pick<Guest, "exec" | "signalExec" | "resizeExec"> {
  const find = (id: string): GuestCommand => {
    const found = call(`control ${id}`).commands.find(
      (command) => command.id === id && command.state === "runs",
    );
    if (found === undefined) throw new HearthError("agent.failed", "There is no such command.");
    return found;
  };
  return {
    exec: async function* (spec, { id, stdin }, signal) {
      await answers(signal);
      if (faults.neverStarts === true) await untilAborted(signal);
      const { guest, plan, commands } = call(`exec ${spec.argv.join(" ")}`);
      if (plan.init === "systemd" && guest.init !== "runs")
        throw new HearthError("agent.failed", "The guest's init has not started yet.");
      if (guest.frozen) throw new HearthError("agent.failed", "A command waits for a guest that is held.");
      const code = faults.exitCode;
      delete faults.exitCode;
      const command = new GuestCommand(
        id,
        code === undefined ? spec : { ...spec, argv: ["exit", `${code}`] },
        () => vmms.changed(),
      );
      commands.push(command);
      yield* command.run(stdin, signal);
    },
    signalExec: async (id, number, signal) => {
      await answers(signal);
      find(id).signal(number);
    },
    resizeExec: async (id, size, signal) => {
      await answers(signal);
      find(id).resize(size);
    },
  };
}

function copyCalls(
  call: (what: string) => FakeVmm,
  answers: (signal: AbortSignal) => Promise<void>,
  faults: GuestFaults,
): Pick<Guest, "readTar" | "writeTar" | "dial" | "listPorts"> {
  return {
    listPorts: async (signal) => {
      await answers(signal);
      call("list ports");
      return { ports: faults.ports ?? [ECHO_SERVER], truncated: faults.ports !== undefined };
    },
    // Its only server echoes, and ends with its client.
    async *dial(target, source, signal) {
      await answers(signal);
      call("dial");
      if (target.network !== "tcp" || target.port !== ECHO_PORT)
        throw new HearthError("agent.failed", "nothing answers in the guest");
      yield new Uint8Array();
      yield* source;
    },
    readTar: async function* (path, signal) {
      await answers(signal);
      const tar = call(`read ${path}`).tars.get(path);
      const isEndless = path === `/${ENDLESS}`;
      if (tar === undefined && !isEndless)
        throw new HearthError("file.not_found", `There is no ${path} in the VM.`);
      yield tar ?? new Uint8Array(1);
      if (isEndless) await untilAborted(signal);
    },
    writeTar: async ({ path }, source, signal) => {
      await answers(signal);
      if (path === `/${ENDLESS}`) await untilAborted(signal);
      const chunks: Uint8Array[] = [];
      for await (const chunk of source) chunks.push(chunk);
      const tar = Buffer.concat(chunks);
      call(`write ${path}`).written.set(path, tar);
      return { entries: 1, bytes: tar.length };
    },
  };
}

/** Returns the Info of an agent that answers. */
function infoOf(_vmm: FakeVmm, { execs = 0 }: GuestFaults) {
  return { execs } as Awaited<ReturnType<Guest["info"]>>;
}

/** @throws HearthError `agent.unreachable` also where a real agent would only not answer */
function answeringVmm(vmms: FakeVmms, address: AgentAddress): FakeVmm {
  const vmm = vmmAt(vmms, address);
  if (vmm?.phase === "running") return vmm;
  throw unreachable();
}

/** True if this guest's own init starts when the host has left. */
function initFollows({ plan, guest }: FakeVmm): boolean {
  if (plan.init !== "systemd" || guest.init !== "none") return false;
  guest.init = "starts";
  return true;
}

/** The host closes a connection. */
function hangUp(vmm: FakeVmm | undefined, closed: (error: undefined) => void): void {
  closed(undefined);
  if (vmm?.guest.init === "starts") vmm.guest.init = "runs";
}

/** True if this guest's own init has started. */
export function initRuns(vmms: FakeVmms, address: AgentAddress): boolean {
  return vmmAt(vmms, address)?.guest.init === "runs";
}

/** A guest whose vCPUs are paused answers when they are resumed. */
export async function untilItAnswers(
  vmms: FakeVmms,
  address: AgentAddress,
  signal: AbortSignal,
): Promise<void> {
  while (vmmAt(vmms, address)?.phase === "paused") await vmms.change(signal);
}

function vmmAt(vmms: FakeVmms, { agentSocket }: AgentAddress): FakeVmm | undefined {
  return vmms.running().find(({ plan }) => `${plan.runDir}/agent.sock` === agentSocket);
}

function unreachable(): HearthError {
  return new HearthError("agent.unreachable", "The guest agent does not answer.");
}

/**
 * Makes the guest do something: it remembers that, and writes it to its disk. While it is frozen, only its kernel does.
 */
export function letWork(vmm: FakeVmm, who: "a program" | "the kernel" = "a program"): void {
  const isFrozen = vmm.guest.frozen && who === "a program";
  if (vmm.phase !== "running" || isFrozen) throw new Error("This guest is frozen.");
  const path = ownDisk(vmm);
  const disk = readFakeDisk(path);
  if (disk === undefined) throw new Error(`There is no disk ${path}.`);
  vmm.count += 1;
  vmm.guest.written = disk.written + 1;
  writeFakeDisk(path, { ...disk, written: vmm.guest.written });
}

/** Returns the content of the disk that the VMM writes. */
export function writtenOn(vmm: Pick<FakeVmm, "plan">): number {
  return readFakeDisk(ownDisk(vmm))?.written ?? 0;
}

function ownDisk({ plan }: Pick<FakeVmm, "plan">): string {
  return plan.disks.find(({ readOnly }) => !readOnly)?.path ?? findDisk(plan.stateDir).path;
}
