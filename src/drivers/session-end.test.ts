/** The sessions of both drivers tell that a VMM has ended, even when the host's disk or directories are in the way. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { END_WITH_OWN_RIGHTS } from "#drivers/end-vmm.ts";
import { firecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { FirecrackerSession } from "#drivers/firecracker/firecracker-session.ts";
import { qemuSockets } from "#drivers/qemu/command-line.ts";
import { QemuSession } from "#drivers/qemu/qemu-session.ts";
import type { VmmWatcher } from "#drivers/vm-driver.ts";
import { hostBootId } from "#host/procfs.ts";
import type { VmExit, VmHandle } from "#model/vm-handle.ts";

const timing = {
  heartbeatMs: 60_000,
  answerDeadlineMs: 1_000,
  commandDeadlineMs: 1_000,
  startDeadlineMs: 1_000,
  terminateMs: 1_000,
};
type Options = ConstructorParameters<typeof QemuSession>[1];
type Session = { watch(watcher: VmmWatcher, signal: AbortSignal): void; finish(): Promise<VmExit> };
type Make = (
  place: { runDir: string; stateDir: string },
  options: Options,
) => { session: Session; sockets: string[] };

/** The handle of a process that has ended: no pid is as high. */
function endedHandle(stateDir: string, [agent = "", monitor = "", console = ""]: string[]): VmHandle {
  const process = { pid: 2 ** 30, startTicks: 1, hostBootId: hostBootId() };
  return {
    driver: "any",
    accel: "tcg",
    processes: [process],
    stateDir,
    agentSocket: agent,
    monitorSocket: monitor,
    consoleSocket: console,
  };
}

const DRIVERS: Readonly<Record<string, Make>> = {
  QEMU: ({ runDir, stateDir }, options) => {
    const { agent, monitor, console } = qemuSockets(runDir);
    const sockets = [agent, monitor, console];
    return { session: new QemuSession(endedHandle(stateDir, sockets), options), sockets };
  },
  Firecracker: ({ runDir, stateDir }, options) => {
    const { vsock, api, console } = firecrackerFiles(runDir);
    const sockets = [vsock, api, console];
    return { session: new FirecrackerSession(endedHandle(stateDir, sockets), options), sockets };
  },
};

for (const [name, make] of Object.entries(DRIVERS)) {
  test(`the end of ${name} is reported even if its files cannot be removed, and stopping it again succeeds`, async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "session-end-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const place = { runDir: join(dir, "run"), stateDir: join(dir, "state") };
    const troubles: string[] = [];
    const { session, sockets } = make(place, {
      timing,
      logMaxBytes: 1_000,
      onTrouble: (path) => troubles.push(path),
      endVmm: END_WITH_OWN_RIGHTS,
      onEnd: () => {},
    });
    // A directory in the place of a socket, and in that of a log that tells how the VMM ended.
    for (const path of [
      sockets[2] ?? "",
      join(place.stateDir, "console.log"),
      join(place.stateDir, "vmm.log"),
    ])
      mkdirSync(path, { recursive: true });
    const told = Promise.withResolvers<VmExit>();
    session.watch({ exited: told.resolve, silent: () => {} }, t.signal);
    assert.equal((await told.promise).reason, "died");
    assert.equal((await session.finish()).reason, "died");
    assert.ok(troubles.includes(place.runDir), troubles.join());
  });
}
