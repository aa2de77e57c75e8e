/**
 * hearthd, with one difference: it kills itself, as by `kill -9`, at one moment of one flow.
 * HEARTH_CRASH_AT is `flow/step/event`, such as `start/boot/started`.
 */
import { homedir } from "node:os";
import { join } from "node:path";
import { hearthFolders } from "#base/folders.ts";
import { pinoLog } from "#daemon/pino-log.ts";
import { makePrivateFolder } from "#daemon/managed-files.ts";
import { runDaemon } from "#daemon/run-daemon.ts";
import { BoundedFile } from "#host/bounded-file.ts";

const folders = hearthFolders(process.env, homedir());
await makePrivateFolder(folders.state);
const file = new BoundedFile(join(folders.state, "hearthd.log"), 4 * 1024 * 1024);
const log = pinoLog({ write: (line) => file.append(Buffer.from(line)) });
await runDaemon(
  {
    folders,
    agentDir: join(import.meta.dirname, "../build/agent"),
    log,
    onJournal: (kind, step, event) => {
      if (`${kind}/${step}/${event}` === process.env["HEARTH_CRASH_AT"]) process.kill(process.pid, "SIGKILL");
    },
  },
  () => process.stdout.write("ready\n"),
  new AbortController().signal,
);
