import assert from "node:assert/strict";
import { test } from "node:test";
import type { Flow } from "#daemon/flows/flow.ts";
import { CREATE_VM } from "#daemon/flows/create-vm.ts";
import { REMOVE_VM } from "#daemon/flows/remove-vm.ts";
import { START_VM } from "#daemon/flows/start-vm.ts";
import { STOP_VM } from "#daemon/flows/stop-vm.ts";
import type { StepEvent } from "#daemon/journal.ts";
import { recover } from "#daemon/recover.ts";
import { Vms } from "#daemon/vms.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";

const FLOWS = [CREATE_VM, START_VM, STOP_VM, REMOVE_VM] as Flow<unknown>[];

/** Stands for the end of hearthd: nothing after it happens in this life. */
class Crash extends Error {}

/** Everything that the flows do: create, start, stop, remove. */
async function wholeLife(vms: Vms): Promise<void> {
  await vms.create({ name: "web", image: "debian" }, false, vms.background());
  await vms.start("web", vms.background());
  await vms.stop("web", { mode: "graceful", timeoutMs: 1_000 }, vms.background());
  await vms.remove("web", false, vms.background());
}

for (const flow of FLOWS) {
  for (const step of flow.steps) {
    for (const event of ["started", "done"] as const satisfies readonly StepEvent[]) {
      test(`L1: a hearthd killed in ${flow.kind}, "${step.name}" ${event}, comes back to a host as the journal says`, async () => {
        using machine = new FakeMachine();
        let dead = false;
        const crashing = new FakeHost(machine, (kind, name, what) => {
          // A dead process writes nothing; every later write of this life fails, as it would never happen.
          if (dead || (kind === flow.kind && name === step.name && what === event)) {
            dead = true;
            throw new Crash();
          }
        });
        stopUndo(crashing, () => dead);
        await assert.rejects(wholeLife(new Vms(crashing)), (error) => crashedIn(error));
        crashing.store.close();

        const host = new FakeHost(machine);
        const vms = new Vms(host);
        await recover(host, vms);
        assert.deepEqual(host.journals.listOpen(), [], "no flow is open");
        const vm = host.store.findVm("web");
        if (vm === undefined) assert.deepEqual(machine.leftovers(), []);
        else {
          const runs = vm.state.phase === "running";
          assert.equal(
            machine.vmms.running().length,
            runs ? 1 : 0,
            `a VM that is ${vm.state.phase} has that many VMMs`,
          );
          assert.ok(
            ["created", "running", "stopped"].includes(vm.state.phase),
            `${vm.state.phase} is where a VM rests`,
          );
          await vms.remove("web", true, vms.background());
          assert.deepEqual(machine.leftovers(), [], "what was there can be removed");
        }
        vms.detachAll();
        host.store.close();
      });
    }
  }
}

/** After the crash, no undo of this life reaches the host. */
function stopUndo(host: FakeHost, isDead: () => boolean): void {
  const { files, processes, driver } = host;
  const removeTree = files.removeTree;
  Object.assign(files, {
    removeTree: async (root: string, path: string) => void (isDead() || (await removeTree(root, path))),
  });
  const { kill } = processes;
  Object.assign(processes, {
    kill: async (process: { pid: number }) => void (isDead() || (await kill(process))),
  });
  for (const name of ["releaseUid", "takeFiles", "removeCgroup"] as const) {
    const original = host.helper[name] as (...args: unknown[]) => unknown;
    Object.assign(host.helper, {
      [name]: (...args: unknown[]) => (isDead() ? undefined : original(...args)),
    });
  }
  const stop = driver.stop.bind(driver);
  driver.stop = async (...args) => (isDead() ? { reason: "asked", atMs: 0 } : await stop(...args));
  for (const name of ["deleteVm", "setState", "setError"] as const) {
    const original = host.store[name].bind(host.store) as (...args: unknown[]) => void;
    Object.assign(host.store, { [name]: (...args: unknown[]) => void (isDead() || original(...args)) });
  }
  const transaction = host.store.transaction.bind(host.store);
  host.store.transaction = (work) => (isDead() ? (undefined as never) : transaction(work));
}

function crashedIn(error: unknown): boolean {
  for (let link = error; link instanceof Error; link = link.cause) if (link instanceof Crash) return true;
  return false;
}

for (const [kind, flow] of [
  ["create", CREATE_VM],
  ["start", START_VM],
] as const) {
  for (const step of flow.steps as Flow<unknown>["steps"]) {
    test(`BG-046: ${kind} leaves no trace when "${step.name}" fails after its work was done`, async () => {
      using machine = new FakeMachine();
      const host = new FakeHost(machine);
      const vms = new Vms(host);
      if (kind === "start") await vms.create({ name: "web", image: "debian" }, false, vms.background());
      const before = machine.leftovers();
      const { run } = step;
      (step as { run: typeof run }).run = async (context) => {
        await run(context);
        throw new Error("injected");
      };
      try {
        const act =
          kind === "create"
            ? vms.create({ name: "web", image: "debian" }, false, vms.background())
            : vms.start("web", vms.background());
        await assert.rejects(act);
      } finally {
        (step as { run: typeof run }).run = run;
      }
      assert.deepEqual(machine.leftovers(), before);
      if (kind === "create") assert.equal(host.store.findVm("web"), undefined);
      else assert.equal(host.store.getVm("web").state.phase, "failed");
      vms.detachAll();
      host.store.close();
    });
  }
}

for (const flow of [CREATE_VM, START_VM] as Flow<unknown>[]) {
  for (const step of flow.steps.filter((each) => each.undo !== undefined)) {
    test(`the undo of ${flow.kind}'s "${step.name}" is the same twice, also when nothing was done`, async () => {
      using machine = new FakeMachine();
      const host = new FakeHost(machine);
      const context = { host, id: "vm-aaaaaaaaaaaa", signal: new AbortController().signal };
      await step.undo?.(context);
      await step.undo?.(context);
      assert.deepEqual(machine.leftovers(), []);
      host.store.close();
    });
  }
}
