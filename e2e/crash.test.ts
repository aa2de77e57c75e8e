/** L1: hearthd is killed before and after every step of every flow, with a real VM. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { before, test } from "node:test";
import { CREATE_VM } from "#daemon/flows/create-vm.ts";
import type { Flow } from "#daemon/flows/flow.ts";
import { REMOVE_VM } from "#daemon/flows/remove-vm.ts";
import { START_VM } from "#daemon/flows/start-vm.ts";
import { STOP_VM } from "#daemon/flows/stop-vm.ts";
import type { StepEvent } from "#daemon/journal.ts";
import type { Vm } from "#api/wire.ts";
import { endProcess } from "#host/process-end.ts";
import { Bed } from "./bed.ts";

const bed = new Bed();
const SMALL = ["--memory", "256M", "--cpus", "1"];

before(async () => void (await bed.ok(["image", "build", "debian"])));

/** What a user does so that each flow runs; the flow's VM is `web`. */
const ACTIONS: Record<Flow<unknown>["kind"], { prepare: string[][]; act: string[] }> = {
  create: { prepare: [], act: ["create", "--no-start", "--name", "web", ...SMALL, "debian"] },
  start: { prepare: [["create", "--no-start", "--name", "web", ...SMALL, "debian"]], act: ["start", "web"] },
  stop: { prepare: [["create", "--name", "web", ...SMALL, "debian"]], act: ["stop", "web"] },
  remove: { prepare: [["create", "--no-start", "--name", "web", ...SMALL, "debian"]], act: ["rm", "web"] },
};

for (const flow of [CREATE_VM, START_VM, STOP_VM, REMOVE_VM] as Flow<unknown>[]) {
  for (const step of flow.steps) {
    for (const event of ["started", "done"] as const) {
      test(`after kill -9 of hearthd in ${flow.kind}, "${step.name}" ${event}, ls tells the truth and nothing is left over`, async () => {
        await crash(flow.kind, step.name, event);
        await checkTruth();
        await bed.hearth(["rm", "-f", "web"]);
        assert.deepEqual(bed.leftovers(), []);
      });
    }
  }
}

async function crash(kind: Flow<unknown>["kind"], step: string, event: StepEvent): Promise<void> {
  const { prepare, act } = ACTIONS[kind];
  await endDaemon();
  await startCrashing("nowhere");
  for (const words of prepare) await bed.ok(words);
  await endDaemon();
  const daemon = await startCrashing(`${kind}/${step}/${event}`);
  const died = once(daemon, "exit");
  const result = await bed.hearth(act);
  const [, signal] = (await died) as [number | null, string | null];
  assert.equal(signal, "SIGKILL", "it died where it was told to");
  assert.notEqual(result.code, 0, "who asked is told");
  assert.match(result.stderr, /^error: /m);
}

/** The next command starts a new hearthd, which puts things right before it answers. */
async function checkTruth(): Promise<void> {
  const vms = JSON.parse(await bed.ok(["ls", "--json"])) as Vm[];
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

async function startCrashing(at: string) {
  const daemon = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", join(import.meta.dirname, "crashing-hearthd.ts")],
    {
      env: { ...bed.env, HEARTH_CRASH_AT: at },
      stdio: ["ignore", "pipe", "inherit"],
      detached: true,
    },
  );
  const [line] = (await once(createInterface(daemon.stdout), "line")) as [string];
  assert.equal(line, "ready");
  return daemon;
}

async function endDaemon(): Promise<void> {
  const daemon = bed.daemon();
  if (daemon !== undefined) await endProcess(daemon, 0, AbortSignal.timeout(10_000));
}
