/** The real agent as a program on this machine, serving a Unix socket: no VM, everything else as in one. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HearthError } from "#base/error.ts";
import type { AgentClient } from "#guest/agent-client.ts";
import { waitForAgent } from "#guest/wait-for-agent.ts";
import { startDetached } from "#host/run.ts";

export type RealAgent = AsyncDisposable & {
  readonly pid: number;
  /** Removed at the end, with all that a test puts into it. */
  readonly dir: string;
  readonly socketPath: string;
  readonly exited: Promise<void>;
  /** Another connection. It is closed at the end. */
  connect(): Promise<AgentClient>;
};

const START_DEADLINE_MS = 20_000;

/** The agent's binary on this machine, listening on a Unix socket; ended with the test. */
export async function startRealAgent(): Promise<RealAgent> {
  const binary = agentBinary();
  const dir = mkdtempSync(join(tmpdir(), "hearth-agent-"));
  const socketPath = join(dir, "agent.sock");
  const logFile = join(dir, "agent.log");
  const exited = Promise.withResolvers<void>();
  const pid = await startDetached(binary, ["--listen", `unix:${socketPath}`], {
    cwd: dir,
    logFile,
    onExit: () => exited.resolve(),
  });
  const clients: AgentClient[] = [];
  const dead = new AbortController();
  void exited.promise.then(() =>
    dead.abort(new HearthError("host.tool_failed", `The agent ended: ${readFileSync(logFile, "utf8")}`)),
  );
  const connect = async (): Promise<AgentClient> => {
    const { agent } = await waitForAgent(
      { agentSocket: socketPath },
      { deadlineMs: START_DEADLINE_MS },
      dead.signal,
    );
    clients.push(agent);
    return agent;
  };
  return {
    pid,
    dir,
    socketPath,
    exited: exited.promise,
    connect,
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.close();
      killAgent(pid);
      // The process was started to outlive us, so its end alone does not keep Node waiting.
      const stay = setInterval(() => undefined, START_DEADLINE_MS);
      await exited.promise;
      clearInterval(stay);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** SIGKILL, as an out-of-memory killer would. Idempotent. */
export function killAgent(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function agentBinary(): string {
  const arch = process.arch === "arm64" ? "aarch64" : "x86_64";
  const built = join(import.meta.dirname, `../../build/agent/hearth-agent-${arch}`);
  const path = process.env["HEARTH_TEST_AGENT"] ?? built;
  if (existsSync(path)) return path;
  throw new HearthError("host.tool_missing", `There is no agent at ${path}.`, {
    hint: "Build it: tools/build-agent.sh",
  });
}
