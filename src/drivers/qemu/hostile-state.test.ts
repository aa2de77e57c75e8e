/** A VM state file that takes its QEMU over while it is loaded does not lead hearthd to another VM. */
import assert from "node:assert/strict";
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import { openAgentStream } from "#guest/agent-stream.ts";
import { connectUnix } from "#host/unix-socket.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import type { VmHandle } from "#model/vm-handle.ts";
import { writeFakeQemu } from "#testing/fake-qemu.ts";

const signal = AbortSignal.timeout(60_000);

/** Restores a VM with such a QEMU, beside another VM. */
async function restored(t: TestContext, seals: boolean) {
  const dir = mkdtempSync(join(tmpdir(), "hostile-"));
  const at = (name: string): string => join(dir, name);
  for (const name of ["run", "state"]) mkdirSync(at(name));
  for (const name of ["memory", "saved"]) writeFileSync(at(name), "");
  const visits: string[] = [];
  const victim = createServer((socket) => {
    visits.push("somebody");
    socket.end();
  }).listen(at("victim.sock"));
  await new Promise((resolve) => victim.once("listening", resolve));
  const program = join(import.meta.dirname, "../../testing/hostile-qemu.ts");
  const driver = new QemuDriver({
    program: writeFakeQemu(dir, `exec ${process.execPath} ${program} ${at("victim.sock")} "$@"`, "10.0.0"),
  });
  const seal = async (): Promise<void> => chmodSync(at("run"), 0o555);
  const plan = {
    id: vmIdFrom(new Uint8Array(12)),
    name: parseVmName("web"),
    stateDir: at("state"),
    runDir: at("run"),
    kernel: "/none",
    initramfs: "/none",
    kernelArgs: [],
    disks: [],
    cpus: 1,
    memoryBytes: 2 ** 28,
    nics: [],
    init: "agent",
    nested: false,
    // A script in QEMU's place has no system call filter.
    isolation: { ...NO_ISOLATION, seccomp: false, ...(seals ? { seal } : {}) },
  } as const;
  let handle: VmHandle | undefined;
  t.after(async () => {
    if (handle !== undefined) await driver.stop(handle, "kill", signal);
    victim.close();
    chmodSync(at("run"), 0o755);
    rmSync(dir, { recursive: true });
  });
  const saved = { memory: at("memory"), state: at("saved") };
  handle = await driver.snapshotter.restore(plan, saved, () => {}, signal);
  return { handle, visits };
}

test("a QEMU that is taken over while it loads a VM state file cannot replace its sockets any more", async (t) => {
  const { handle, visits } = await restored(t, true);
  assert.ok(lstatSync(handle.agentSocket).isSocket());
  (await connectUnix(handle.agentSocket, undefined, signal)).destroy();
  assert.deepEqual(visits, []);
});

test("a link in the place of a socket does not lead to another VM: it is refused by name", async (t) => {
  const { handle, visits } = await restored(t, false);
  assert.ok(lstatSync(handle.agentSocket).isSymbolicLink(), "it has replaced its socket");
  await assert.rejects(openAgentStream(handle, signal), { code: "path.unmanaged" });
  assert.deepEqual(visits, []);
});
