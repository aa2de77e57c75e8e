#!/usr/bin/env -S node --
/**
 * hearthd: reads the environment, builds the daemon, runs it. Options are in config.toml. `--helper-fd=N` tells a
 * hearthd that was started beside a root helper that fd N is a socket whose other end the helper serves.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { STATE_NAMES } from "#base/file-names.ts";
import { exitProcess } from "#base/exit-process.ts";
import { errorBody, HearthError } from "#base/error.ts";
import { absoluteSetting, hearthDirs } from "#base/hearth-dirs.ts";
import { logDestination } from "#daemon/lifecycle/log-destination.ts";
import { makePrivateDir } from "#daemon/store/managed-files.ts";
import { pinoLog } from "#daemon/lifecycle/pino-log.ts";
import { runDaemon } from "#daemon/lifecycle/run-daemon.ts";
import { BoundedFile } from "#host/bounded-file.ts";
import { LIMITS } from "#model/limits.ts";

const stop = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => stop.abort());
process.on("SIGHUP", () => {}); // hearthd and the VMs outlive the terminal that hearthd was started from.

try {
  const dirs = hearthDirs(process.env, homedir());
  await makePrivateDir(dirs.state);
  const file = new BoundedFile(join(dirs.state, STATE_NAMES.log), LIMITS.logFileMaxBytes);
  const log = pinoLog(logDestination(file));
  // A rejection that no code awaits is a bug of one request; the VMs of all others run on.
  process.on("unhandledRejection", (error) => log.event("daemon.bug", { where: "a promise", error }));
  // The exception ends hearthd, which is safe at any moment. The monitor logs it before.
  process.on("uncaughtExceptionMonitor", (error) => log.event("daemon.bug", { where: "an event", error }));
  const agentDir =
    absoluteSetting(process.env, "HEARTH_AGENT_DIR") ?? join(import.meta.dirname, "../build/agent");
  await runDaemon({ dirs, agentDir, log, helperFd: helperFd() }, () => {}, stop.signal);
  exitProcess(0);
} catch (error) {
  // The parent reads this; see src/sdk/start-daemon.ts.
  process.stderr.write(`${JSON.stringify({ error: errorBody(error) })}\n`);
  exitProcess(1);
}

function helperFd(): number | undefined {
  const { values } = parseArgs({ options: { "helper-fd": { type: "string" } } });
  const given = values["helper-fd"];
  if (given === undefined) return undefined;
  if (/^\d{1,4}$/.test(given)) return Number(given);
  throw new HearthError("config.invalid", `--helper-fd is ${JSON.stringify(given)}, and must be a number.`);
}
