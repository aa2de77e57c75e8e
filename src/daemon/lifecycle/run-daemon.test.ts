/** Runs hearthd itself, with a store in which hardly anything is as it should be. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { Vm } from "#api/wire.ts";
import { apiSocketPath, hearthDirs } from "#base/hearth-dirs.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import { SILENT } from "#base/log.ts";
import { Journals } from "#daemon/store/journal.ts";
import { runDaemon } from "#daemon/lifecycle/run-daemon.ts";
import { Store } from "#daemon/store/store.ts";
import type { NewVm } from "#daemon/store/store.ts";
import { vmPaths } from "#daemon/store/paths.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcess } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { startDetached } from "#host/run.ts";
import { operationIdFrom, parseVmId, parseVmName } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import { LATER_FIELDS } from "#model/vm-spec.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { FAKE_DIGEST } from "#testing/fake-host.ts";
import { startScriptedAgent } from "#testing/scripted-agent.ts";

const HOUR_MS = 3_600_000;
const IDS = {
  row: parseVmId("vm-rowrowrowrow"),
  driver: parseVmId("vm-driverdriver"),
  handle: parseVmId("vm-handlehandle"),
  stop: parseVmId("vm-stopstopstop"),
};

function newVm(name: keyof typeof IDS, state: NewVm["state"]): NewVm {
  const spec = {
    ...LATER_FIELDS,
    image: parseImageRef("debian"),
    cpus: 1,
    memoryBytes: 2 ** 28,
    diskBytes: 2 ** 30,
    network: "none",
    init: "agent",
    isolation: { ...FULL_ISOLATION, jail: false, cgroup: false },
    bootArgs: [],
    env: {},
    autoRemove: false,
  } as const;
  return { id: IDS[name], name: parseVmName(name), spec, imageDigest: FAKE_DIGEST, state, ephemeral: false };
}

function handleOf(dirs: Dirs, name: keyof typeof IDS, driver: string, process: ProcessRef): VmHandle {
  const { stateDir, runDir } = vmPaths(dirs, IDS[name]);
  for (const dir of [stateDir, runDir]) mkdirSync(dir, { recursive: true, mode: 0o700 });
  const at = (socket: string): string => join(runDir, socket);
  return {
    driver,
    accel: "tcg",
    processes: [process],
    stateDir,
    agentSocket: at("agent.sock"),
    monitorSocket: at("monitor.sock"),
    consoleSocket: at("console.sock"),
  };
}

/** A process in place of a VMM whose guest takes an hour to power off. */
async function startVmm(t: TestContext): Promise<ProcessRef> {
  const pid = await startDetached("/bin/sleep", ["3600"], { cwd: "/", logFile: "/dev/null", onExit() {} });
  const vmm = findProcess(pid) ?? assert.fail("it runs");
  t.after(() => endProcess(vmm, 0, AbortSignal.timeout(10_000)));
  return vmm;
}

function fillStore(dirs: Dirs, vmm: ProcessRef): void {
  const store = new Store(join(dirs.state, "hearth.db"));
  const running = { phase: "running", startedAtMs: 1 } as const;
  store.insertVm(newVm("row", { phase: "created" }));
  store.statement("UPDATE vms SET spec = '{' WHERE name = 'row'").run();
  store.insertVm(newVm("driver", { ...running, handle: handleOf(dirs, "driver", "nosuch", vmm) }));
  store.insertVm(newVm("handle", { ...running, handle: { driver: "qemu" } as never }));
  store.insertVm(
    newVm("stop", { phase: "stopping", startedAtMs: 1, handle: handleOf(dirs, "stop", "qemu", vmm) }),
  );
  const plan = { mode: "graceful", timeoutMs: HOUR_MS };
  new Journals(store)
    .open(operationIdFrom(Buffer.alloc(6)), "stop", IDS.stop, plan)
    .write("ask the guest", "started");
  store.close();
}

async function ask(dirs: Dirs, method: string, path: string): Promise<unknown> {
  const headers = { "content-type": "application/json" };
  const asked = request({ socketPath: apiSocketPath(dirs), method, path, headers });
  asked.end(method === "GET" ? undefined : "{}");
  const [answer] = (await once(asked, "response")) as Parameters<typeof text>;
  return JSON.parse(await text(answer));
}

test("hearthd listens though a row, a handle and a driver are unknown to it and a stop takes an hour", async (t) => {
  const home = mkdtempSync(join(tmpdir(), "hearthd-"));
  t.after(() => rmSync(home, { recursive: true, force: true }));
  const dirs = hearthDirs({ HEARTH_HOME: home }, home);
  for (const dir of [dirs.state, dirs.config]) mkdirSync(dir, { recursive: true, mode: 0o700 });
  writeFileSync(join(dirs.config, "config.toml"), "warm.enabled = false\n");
  const vmm = await startVmm(t);
  fillStore(dirs, vmm);
  const asked = Promise.withResolvers<void>();
  await using agent = await startScriptedAgent(vmPaths(dirs, IDS.stop).runDir + "/agent.sock", {
    answers: {
      shutdown: () => {
        asked.resolve();
        return {};
      },
    },
  });
  const stop = new AbortController();
  const ready = Promise.withResolvers<void>();
  const abandon = (): never => assert.fail("nothing is abandoned");
  const ended = runDaemon({ dirs, agentDir: home, log: SILENT, abandon }, ready.resolve, stop.signal);
  t.after(async () => {
    stop.abort();
    await ended;
  });
  await Promise.race([ready.promise, ended]);
  await asked.promise;
  for (const connection of agent.connections) connection.destroy(); // It closes the connection as it powers off.
  const seen = (await ask(dirs, "GET", "/v1/vms")) as Vm[];
  const shown = Object.fromEntries(
    seen.map((vm) => [vm.name, [vm.phase, vm.recovering, vm.lastError?.code]]),
  );
  assert.deepEqual(shown["row"]?.slice(0, 2), ["failed", undefined]);
  assert.deepEqual(shown["driver"]?.slice(0, 2), ["failed", undefined]);
  assert.deepEqual(shown["handle"]?.slice(0, 2), ["failed", undefined]);
  assert.deepEqual(shown["stop"], ["stopping", true, undefined]);
  const killed = (await ask(dirs, "POST", "/v1/vms/stop/kill")) as Vm;
  assert.deepEqual([killed.phase, killed.recovering], ["stopped", undefined]);
  assert.equal(findProcess(vmm.pid), undefined, "the VMM has ended");
});
