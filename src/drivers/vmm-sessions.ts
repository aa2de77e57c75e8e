import type { EndVmm } from "#drivers/end-vmm.ts";
import { endHelpers } from "#drivers/launcher-end.ts";
import type { ChildExit } from "#jail/vmm-launch.ts";
import type { VmmSession } from "#drivers/vmm-session.ts";
import { isAlive } from "#host/procfs.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";

/** The part of `VmmSessionOptions` that the driver's `VmmSessions` provides. */
export type SessionLife = {
  readonly childExit?: Promise<ChildExit> | undefined;
  readonly endVmm: EndVmm;
  readonly onTrouble: (path: string, error: unknown) => void;
  readonly onEnd: () => void;
};

export type VmmSessionsOptions<Session> = {
  readonly driver: string;
  readonly endVmm: EndVmm;
  /** Called with what could not be cleaned up. */
  readonly onTrouble: (path: string, error: unknown) => void;
  readonly open: (handle: VmHandle, life: SessionLife) => Session;
};

/** The sessions of one driver, by process: a VM that was started again has another process. */
export class VmmSessions<Session extends VmmSession> {
  readonly #options: VmmSessionsOptions<Session>;
  readonly #sessions = new Map<string, Session>();

  constructor(options: VmmSessionsOptions<Session>) {
    this.#options = options;
  }

  /** Returns the session of this VMM; opens one when this hearthd has none. */
  of(handle: VmHandle): Session {
    return this.#sessions.get(keyOf(handle)) ?? this.add(handle);
  }

  /**
   * Opens the session of a VMM that was started just now.
   * @param childExit resolves when its launcher reports its end
   */
  add(handle: VmHandle, childExit?: Promise<ChildExit>): Session {
    const key = keyOf(handle);
    const { endVmm, onTrouble, open } = this.#options;
    const session = open(handle, {
      childExit,
      endVmm,
      onTrouble,
      onEnd: () => this.#sessions.delete(key),
    });
    this.#sessions.set(key, session);
    return session;
  }

  /** Releases a VMM that did not get far enough to be watched. */
  release(session: Session): void {
    session.release();
    this.#sessions.delete(keyOf(session.handle));
  }

  /** Tells, after a restart of hearthd, whether this very VMM still runs. Ends what is left of one that has ended. */
  async recover(handle: VmHandle): Promise<boolean> {
    const { driver, endVmm, onTrouble } = this.#options;
    if (handle.driver !== driver) return false;
    if (isAlive(handle.processes[0])) return true;
    await endHelpers(handle, endVmm, onTrouble);
    return false;
  }

  /**
   * Ends the VMM: by SIGTERM, and by SIGKILL after `graceMs`; with 0 by SIGKILL at once. Idempotent.
   * @returns how it ended
   */
  async stop(handle: VmHandle, graceMs: number, signal: AbortSignal): Promise<VmExit> {
    const session = this.of(handle);
    if (isAlive(handle.processes[0])) {
      session.markAsked();
      // QEMU 7.2 that gets SIGTERM while it answers hangs (3 of 40 times on a loaded machine).
      if (graceMs > 0) await session.quiet();
    }
    await this.#options.endVmm(handle.stateDir, handle.processes[0], graceMs, signal);
    return session.finish();
  }
}

function keyOf({ processes: [vmm] }: VmHandle): string {
  return `${vmm.hostBootId} ${vmm.pid} ${vmm.startTicks}`;
}
