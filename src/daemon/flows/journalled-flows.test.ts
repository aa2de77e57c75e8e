import assert from "node:assert/strict";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import type { Flow } from "#daemon/flows/flow.ts";
import { CREATE_VM } from "#daemon/flows/create-flow.ts";
import { REMOVE_VM } from "#daemon/flows/remove-flow.ts";
import { START_VM } from "#daemon/flows/start-flow.ts";
import { STOP_VM } from "#daemon/flows/stop-flow.ts";
import type { StepEvent } from "#daemon/store/journal.ts";
import { recover } from "#daemon/lifecycle/recover.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import { Vms } from "#daemon/vm/vms.ts";
import { FakeHost, FakeMachine, journalled } from "#testing/fake-host.ts";
import { Life } from "#testing/life.ts";

const FLOWS = [CREATE_VM, START_VM, STOP_VM, REMOVE_VM] as Flow<unknown>[];

/** Runs every flow once: create, start, stop, remove. */
async function wholeLife(vms: Vms): Promise<void> {
  await vms.create({ name: "web", image: "debian" }, false, vms.background());
  await vms.start("web", vms.background());
  await vms.stop("web", { mode: "graceful", timeoutMs: 1_000 }, vms.background());
  await vms.remove("web", false, vms.background());
}

for (const flow of FLOWS) {
  for (const step of flow.steps) {
    for (const event of ["started", "done"] as const satisfies readonly StepEvent[]) {
      test(`killing hearthd in ${flow.kind}, "${step.name}" ${event}: the next one closes the journal and leaves no orphan`, async () => {
        using machine = new FakeMachine();
        const life = new Life();
        const last = journalled(flow.kind, step.name, event);
        life.watchEffects((effect) => effect === last);
        const dyingHost = new FakeHost(machine, { life });
        const dying = new Vms(dyingHost);
        await Promise.race([wholeLife(dying), life.over]).catch(() => {}); // The answer of a dead hearthd does not matter.
        assert.ok(life.isOver);
        dying.detachAll();
        dyingHost.store.close();

        const host = new FakeHost(machine);
        const vms = new Vms(host);
        await (
          await recover(host, vms)
        ).done;
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
            `${vm.state.phase} is a state that recovery leaves a VM in`,
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

for (const [kind, flow] of [
  ["create", CREATE_VM],
  ["start", START_VM],
] as const) {
  for (const step of flow.steps as Flow<unknown>["steps"]) {
    test(`${kind} leaves no trace when "${step.name}" fails after its work was done`, async () => {
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
      // The empty directory for its saved state stays with the VM's directory.
      assert.deepEqual(
        machine.leftovers().filter((path) => !path.endsWith("/save")),
        before,
      );
      if (kind === "create") assert.equal(host.store.findVm("web"), undefined);
      else assert.equal(host.store.getVm("web").state.phase, "failed");
      vms.detachAll();
      host.store.close();
    });
  }
}

for (const flow of [CREATE_VM, START_VM] as Flow<unknown>[]) {
  for (const step of flow.steps.filter((each) => each.undo !== undefined)) {
    test(`the undo of ${flow.kind}'s "${step.name}" is idempotent, also when nothing was done`, async () => {
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

test("a copy of guest memory that a killed hearthd has left is removed when its start is undone", async () => {
  using machine = new FakeMachine();
  const life = new Life();
  const last = journalled("start", "boot", "started");
  life.watchEffects((effect) => effect === last);
  const dyingHost = new FakeHost(machine, { life });
  const dying = new Vms(dyingHost);
  await Promise.race([wholeLife(dying), life.over]).catch(() => {}); // The answer of a dead hearthd does not matter.
  dying.detachAll();
  dyingHost.store.close();
  const host = new FakeHost(machine);
  const { stateDir, memoryCopy } = vmPaths(host.dirs, host.store.getVm("web").id);
  mkdirSync(stateDir, { recursive: true });
  writeFileSync(memoryCopy, "guest memory");
  const vms = new Vms(host);
  await (
    await recover(host, vms)
  ).done;
  assert.equal(existsSync(memoryCopy), false);
  vms.detachAll();
  host.store.close();
});
