import { HearthError } from "#base/error.ts";
import { within } from "#base/deadline.ts";
import { isolationInForce } from "#drivers/boot-isolation.ts";
import type { BootIsolation } from "#drivers/boot-isolation.ts";
import type { FaultOptions } from "#jail/isolation-faults.ts";
import type { ChildExit, LaunchedVmm, VmmLaunch } from "#jail/vmm-launch.ts";
import { readTail, sizeOf, truncateWhenOver } from "#host/bounded-file.ts";
import { isAlive } from "#host/procfs.ts";
import type { IsolationInForce } from "#model/isolation.ts";
import type { ProcessId } from "#model/vm-handle.ts";

/** The longest time between the end of a process and our knowing its exit code. */
export const EXIT_CODE_DEADLINE_MS = 1_000;

/** Of its stderr, in the error of a VMM that ended. */
const STDERR_TAIL_MAX_BYTES = 2_000;

export type StartVmmOptions = {
  /** Of the VMM, as sentences have it. */
  readonly name: string;
  readonly launch: VmmLaunch;
  readonly isolation: BootIsolation;
  readonly logMaxBytes: number;
};

/** Starts a VMM, whose log is bounded first; nothing of it answers yet. @throws what `BootIsolation.launch` throws */
export async function startVmm(
  { name, launch, isolation, logMaxBytes }: StartVmmOptions,
  signal: AbortSignal,
): Promise<StartingVmm> {
  const { logFile } = launch;
  truncateWhenOver(logFile, logMaxBytes);
  const logStart = sizeOf(logFile);
  const launched = {
    ...(await isolation.launch(launch, signal)),
    inForce: isolationInForce(isolation),
    findFaults: isolation.findFaults.bind(isolation),
    end: isolation.end.bind(isolation),
  };
  return new StartingVmm(name, launched, () => readTail(logFile, STDERR_TAIL_MAX_BYTES, logStart).trim());
}

/** What is known of a VMM that was started. */
export type StartedVmm = LaunchedVmm &
  Pick<BootIsolation, "findFaults" | "end"> & { readonly inForce: IsolationInForce };

/** A VMM that was started and does not run a guest yet. */
export class StartingVmm {
  readonly launched: StartedVmm;
  /** One that ended at once has none any more; its end is reported all the same. */
  readonly process: ProcessId;
  /** Resolves with the reason. */
  readonly hasEnded: Promise<HearthError>;
  readonly #name: string;
  readonly #stderrTail: () => string;
  #ended: HearthError | undefined;

  /**
   * @param name of the VMM, as sentences have it
   * @param lastWords what it has written on stderr since its start; asked for when it has ended
   */
  constructor(name: string, launched: StartedVmm, stderrTail: () => string) {
    this.launched = launched;
    this.process = launched.process ?? { pid: 0, startTicks: 0, hostBootId: "ended" };
    this.#name = name;
    this.#stderrTail = stderrTail;
    this.hasEnded = launched.exit.then((how) => (this.#ended = this.#describeEnd(how)));
  }

  /** Why it ended, once it has. */
  get ended(): HearthError | undefined {
    return this.#ended;
  }

  async kill(): Promise<void> {
    const { signal } = new AbortController();
    const { launcher, exit } = this.launched;
    await this.launched.end(this.process, signal);
    await within(exit, EXIT_CODE_DEADLINE_MS);
    if (launcher !== undefined) await this.launched.end(launcher, signal);
  }

  /**
   * Checks that the VMM is isolated as it was started: to be called when it answers and before the guest runs, and
   * with `seccomp` once it has loaded its filter.
   * @throws HearthError `vmm.not_isolated`
   */
  async confirmIsolation(options: FaultOptions): Promise<void> {
    const faults = await this.launched.findFaults(this.process, options);
    if (faults.length === 0) return;
    throw new HearthError(
      "vmm.not_isolated",
      `Cannot run the VM: ${this.#name} is not isolated as it should be: ${faults.join("; ")}.`,
      { hint: "Look for what moves or changes processes on this host, and run `hearth doctor`." },
    );
  }

  /** `work`, or the reason why the process ended meanwhile, which says more than what `work` makes of it. SV-025. */
  async guard<Result>(work: Promise<Result>, signal: AbortSignal): Promise<Result> {
    try {
      return await work;
    } catch (error) {
      if (signal.aborted) throw error;
      // A process that ends closes its sockets a moment before it is gone.
      const closed = error instanceof HearthError && error.code === "vmm.failed";
      const mayHaveEnded = closed || !isAlive(this.process);
      throw (mayHaveEnded ? await within(this.hasEnded, EXIT_CODE_DEADLINE_MS) : this.#ended) ?? error;
    }
  }

  #describeEnd({ code, signal }: ChildExit): HearthError {
    const words = this.#stderrTail();
    return new HearthError("vmm.failed", `${this.#name} ${howItEnded(code, signal)} before the VM ran`, {
      hint: "`hearth doctor` checks what this host can do.",
      cause: new Error(words === "" ? "it said nothing" : words),
    });
  }
}

function howItEnded(code: ChildExit["code"], signal: ChildExit["signal"]): string {
  if (signal !== null) return `was killed by ${signal}`;
  return code === null ? "lost its launcher" : `exited with code ${code}`;
}
