/** All events that hearthd writes to its log, with their fields. */
export type LogEvent = {
  "daemon.started": { version: string; pid: number; vms: number };
  "daemon.stopping": { reason: string };
  /** hearthd ends while work is under way. The next start recovers it as after a crash. */
  "daemon.abandoned": { late: string };
  /** A service could not drain or stop; the others are stopped all the same. */
  "service.failed": { service: string; step: string; error: unknown };
  /** hearthd ends: without the helper it can neither start nor end VMs. */
  "helper.gone": { error: unknown };
  "daemon.bug": { where: string; error: unknown };
  /** A request that changes something, or a command, has ended. */
  "operation.ended": { principal: string; request: string; state: string; tookMs: number };
  "api.failed": { route: string; code: string; error: unknown };
  "flow.started": { flow: string; vm: string };
  "flow.step": { flow: string; step: string; tookMs: number };
  "flow.done": { flow: string; vm: string; tookMs: number };
  "flow.failed": { flow: string; vm: string; error: unknown };
  "flow.undo_failed": { flow: string; step: string; error: unknown };
  "flow.journal_left": { flow: string; error: unknown };
  "flow.recovered": { flow: string; vm: string; how: "unwound" | "finished" };
  /** `reason`: why the VMM ended, if it did. */
  "vm.phase": { from: string; to: string; reason?: string | undefined };
  "vm.adopted": { pid: number };
  "vm.not_recovered": { error: unknown };
  "vm.lost": { pid: number };
  "vm.unhealthy": { silentMs: number };
  "vm.killed": { reason: string };
  "vm.run_not_ended": { error: unknown };
  "vm.lifetime_not_ended": { error: unknown };
  /** The VMM has stopped the vCPUs, and hearthd has not asked for that. */
  "vm.vcpus_stopped": { reason: string };
  "vm.restore_failed": { snapshot: string; error: unknown };
  "vm.boot_retried": { error: unknown };
  "vm.restore_retried": { snapshot: string; error: unknown };
  "vm.freeze_warned": { warning: string };
  "vm.thaw_warned": { warning: string };
  "vm.identity_warned": { warning: string };
  "vm.idle": Record<never, never>;
  "vm.restarts": { afterMs: number };
  "vm.not_suspended": { error: unknown };
  "vm.use_not_kept": { error: unknown };
  "vm.error_not_kept": { failure: string; error: unknown };
  /** `before`: the number of disconnects since the last event. */
  "agent.disconnected": { error: unknown; before?: number };
  "template.made": { snapshot: string; image: string; tookMs: number };
  "template.failed": { error: unknown };
  "template.evicted": { snapshot: string };
  "pool.failed": { pool: string; error: unknown };
  "image.built": { ref: string; digest: string; tookMs: number };
  "lost.found": { path: string; movedTo: string };
  "lost.recovered": { path: string };
  "store.older": { vms: number; flows: number };
  "clean.left_over": { path: string; error: unknown };
};

/** A log, passed in, never global. A child adds fields to each of its events, so that no call site has to. */
export type Log = {
  event<Name extends keyof LogEvent>(name: Name, fields: LogEvent[Name]): void;
  child(fields: Readonly<Record<string, string>>): Log;
};

/** A log that writes nothing. */
export const SILENT: Log = { event() {}, child: () => SILENT };
