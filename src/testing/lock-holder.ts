/** Another process that takes a lock, for tests of what happens when its holder dies. */
import { once } from "node:events";
import { createServer } from "node:net";
import { startDetached } from "#host/run.ts";

export type LockHolder = {
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
};

/** Takes the lock, says so by connecting, and stays. */
const PROGRAM = `
  import { connect } from "node:net";
  const [lockModule, lockPath, socketPath] = process.argv.slice(1);
  const { tryFileLock } = await import(lockModule);
  globalThis.lock = tryFileLock(lockPath);
  if (globalThis.lock !== undefined) connect(socketPath);
`;

/** Resolves once the other process holds the lock. Files are made beside the lock. */
export async function startLockHolder(lockPath: string, signal: AbortSignal): Promise<LockHolder> {
  const socketPath = `${lockPath}.sock`;
  const server = createServer();
  server.listen(socketPath);
  await once(server, "listening");
  const gone = Promise.withResolvers<void>();
  const module = import.meta.resolve("#host/file-lock.ts");
  const args = ["--input-type=module", "-e", PROGRAM, module, lockPath, socketPath];
  const options = { cwd: "/", logFile: `${lockPath}.log`, onExit: () => gone.resolve() };
  const pid = await startDetached(process.execPath, args, options);
  const died = gone.promise.then(() => Promise.reject(new Error("The other process did not get the lock.")));
  await Promise.race([once(server, "connection", { signal }), died]);
  died.catch(() => {}); // It is meant to die from now on.
  server.close();
  server.unref();
  return {
    kill: async () => {
      process.kill(pid, "SIGKILL");
      await gone.promise;
    },
  };
}
