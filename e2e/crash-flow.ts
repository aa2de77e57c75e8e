/** Kills hearthd at one step of one flow of the VM `web`, and looks at what the next one makes of it. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Flow } from "#daemon/flows/flow.ts";
import type { StepEvent } from "#daemon/store/journal.ts";
import { endProcess } from "#host/process-end.ts";
import { SMALL } from "./templates.ts";
import type { Bed } from "./bed.ts";
import type { CliResult } from "./run-cli.ts";

type Kind = Flow<unknown>["kind"];
/** A moment of a flow: before its step, or after it. */
export type CrashPoint = `${Kind}/${string}/${StepEvent}`;

/**
 * Returns one moment of each step, before and after it in turns; with HEARTH_E2E=all each. The tests without VMs have
 * hearthd die at all of them: what these add is real memory, disks and processes.
 */
export function someMomentsOf({ kind, steps }: Flow<never>): CrashPoint[] {
  const all = steps.flatMap(({ name }): CrashPoint[] => [`${kind}/${name}/started`, `${kind}/${name}/done`]);
  if (process.env["HEARTH_E2E"] === "all") return all;
  return all.filter((_, index) => index % 2 === Math.floor(index / 2) % 2);
}

/** Commands of a user that make each flow run; the flow's VM is `web`. */
const ACTIONS: Record<Kind, { prepare: string[][]; act: string[] }> = {
  create: { prepare: [], act: ["create", "--no-start", "--name", "web", ...SMALL, "debian"] },
  start: { prepare: [["create", "--no-start", "--name", "web", ...SMALL, "debian"]], act: ["start", "web"] },
  stop: { prepare: [["create", "--name", "web", ...SMALL, "debian"]], act: ["stop", "web"] },
  snapshot: {
    prepare: [["create", "--name", "web", ...SMALL, "debian"]],
    act: ["snapshot", "create", "web", "s1"],
  },
  finalize: {
    prepare: [["create", "--name", "web", ...SMALL, "debian"]],
    act: ["snapshot", "create", "web", "s1"],
  },
  policy: {
    prepare: [["create", "--name", "web", "--network", "nat", ...SMALL, "debian"]],
    act: ["network", "set", "web", "--network", "deny-all"],
  },
  remove: { prepare: [["create", "--no-start", "--name", "web", ...SMALL, "debian"]], act: ["rm", "web"] },
};

/** Nothing of `web` is left when this resolves. */
export async function crashAndRecover(bed: Bed, point: CrashPoint): Promise<void> {
  await crash(bed, point);
  await checkTruth(bed);
  await bed.hearth(["rm", "-f", "web"]);
  assert.deepEqual(bed.leftovers(), []);
}

async function crash(bed: Bed, point: CrashPoint): Promise<void> {
  const [kind] = point.split("/") as [Kind];
  const { prepare, act } = ACTIONS[kind];
  for (const words of prepare) await bed.ok(words);
  await crashIn(bed, point, act);
}

/** hearthd ends at that moment of what these words ask for. @param at as in crashing-hearthd.ts */
export async function crashIn(bed: Bed, at: string, act: readonly string[]): Promise<void> {
  await endDaemon(bed);
  const daemon = await startCrashing(bed, { HEARTH_CRASH_AT: at });
  const died = once(daemon, "exit");
  const result = await bed.hearth(act);
  const [, signal] = (await died) as [number | null, string | null];
  assert.equal(signal, "SIGKILL", "it died where it was told to");
  assert.notEqual(result.code, 0, "who asked is told");
  assert.match(result.stderr, /^error: /m);
}

/** Kills the VMMs that run at one moment of a flow; hearthd keeps running. */
export async function killVmmsIn(bed: Bed, at: string, act: readonly string[]): Promise<CliResult> {
  await endDaemon(bed);
  await startCrashing(bed, { HEARTH_KILL_VMMS_AT: at });
  return bed.hearth(act);
}

/** The next command starts a new hearthd, which recovers the VM. */
async function checkTruth(bed: Bed): Promise<void> {
  const vms = await bed.vms();
  assert.ok(vms.length <= 1);
  const [vm] = vms;
  if (vm === undefined) return assert.deepEqual(bed.leftovers(), []);
  const running = vm.phase === "running";
  assert.ok(["created", "stopped", "running"].includes(vm.phase), `${vm.phase} is where a VM rests`);
  assert.deepEqual(
    bed.vmms().map(({ pid }) => pid),
    running ? [vm.pid] : [],
  );
  if (running) assert.equal(await bed.ok(["exec", "web", "--", "echo", "alive"]), "alive\n");
  else await bed.ok(["set", "web", "--cpus", "2"]);
}

async function startCrashing(bed: Bed, env: Readonly<Record<string, string>>) {
  const daemon = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", join(import.meta.dirname, "crashing-hearthd.ts")],
    {
      env: { ...bed.env, ...env },
      stdio: ["ignore", "pipe", "inherit"],
      detached: true,
    },
  );
  const [line] = (await once(createInterface(daemon.stdout), "line")) as [string];
  assert.equal(line, "ready");
  return daemon;
}

/** As by `kill -9`. */
export async function endDaemon(bed: Bed): Promise<void> {
  const daemon = bed.daemon();
  if (daemon !== undefined) await endProcess(daemon, 0, AbortSignal.timeout(10_000));
}
