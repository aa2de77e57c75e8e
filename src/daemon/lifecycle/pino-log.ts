import { pino } from "pino";
import type { DestinationStream, Logger } from "pino";
import { errorChain } from "#base/error.ts";
import type { Log, LogEvent } from "#base/log.ts";

/** The levels of events that need attention, or that matter only for debugging. The others have the level info. */
const LEVELS: Partial<Record<keyof LogEvent, "error" | "warn" | "debug">> = {
  "daemon.bug": "error",
  "flow.undo_failed": "error",
  "clean.left_over": "warn",
  "flow.failed": "warn",
  "flow.journal_left": "warn",
  "vm.unhealthy": "warn",
  "vm.killed": "warn",
  "vm.run_not_ended": "warn",
  "vm.lifetime_not_ended": "error",
  "vm.vcpus_stopped": "warn",
  "vm.boot_retried": "warn",
  "vm.restore_retried": "warn",
  "vm.lost": "warn",
  "vm.not_recovered": "error",
  "lost.found": "warn",
  "store.older": "warn",
  "vm.use_not_kept": "warn",
  "vm.error_not_kept": "warn",
  "agent.disconnected": "warn",
};

/** Returns hearthd's log: one JSON object a line. */
export function pinoLog(destination: DestinationStream): Log {
  return wrap(pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, destination));
}

function wrap(logger: Logger): Log {
  return {
    event(name, fields) {
      const error = "error" in fields ? { error: errorChain(fields.error) } : {};
      logger[LEVELS[name] ?? "info"]({ event: name, ...fields, ...error });
    },
    child: (fields) => wrap(logger.child(fields)),
  };
}
