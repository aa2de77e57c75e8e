/**
 * hearthd, with one difference: at one moment of one flow it kills itself, as by `kill -9`, or the VMMs that run.
 * HEARTH_CRASH_AT and HEARTH_KILL_VMMS_AT are `flow/step/event`, such as `start/boot/started`; with `#2` at its end it
 * is the second such moment.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { hearthDirs } from "#base/hearth-dirs.ts";
import { pinoLog } from "#daemon/lifecycle/pino-log.ts";
import { makePrivateDir } from "#daemon/store/managed-files.ts";
import { runDaemon } from "#daemon/lifecycle/run-daemon.ts";
import { BoundedFile } from "#host/bounded-file.ts";
import { findProcessesNaming } from "#host/find-processes.ts";

const dirs = hearthDirs(process.env, homedir());
await makePrivateDir(dirs.state);
const file = new BoundedFile(join(dirs.state, "hearthd.log"), 4 * 1024 * 1024);
const log = pinoLog({ write: (line) => file.append(Buffer.from(line)) });
const crash = moment("HEARTH_CRASH_AT", () => process.kill(process.pid, "SIGKILL"));
const killVmms = moment("HEARTH_KILL_VMMS_AT", () => {
  for (const { pid } of findProcessesNaming([dirs.run, dirs.state], /^(qemu-system-|firecracker)/))
    process.kill(pid, "SIGKILL");
});
await runDaemon(
  {
    dirs,
    agentDir: join(import.meta.dirname, "../build/agent"),
    log,
    onJournal: (kind, step, event) => {
      killVmms(`${kind}/${step}/${event}`);
      crash(`${kind}/${step}/${event}`);
    },
  },
  () => process.stdout.write("ready\n"),
  new AbortController().signal,
);

/** Does it when that moment has come as often as the variable says. */
function moment(variable: string, act: () => void): (now: string) => void {
  const [at, number = "1"] = (process.env[variable] ?? "never").split("#");
  let left = Number(number);
  return (now) => {
    if (now === at && --left === 0) act();
  };
}
