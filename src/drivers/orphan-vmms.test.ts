import assert from "node:assert/strict";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { findOrphanVmms } from "#drivers/orphan-vmms.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcess } from "#host/procfs.ts";
import { startDetached } from "#host/run.ts";

const RUN_DIR = "/run/hearth-none/a,b/vms/vm-aaaaaaaaaaaa";
const never = new AbortController().signal;

/** Starts an idle process with this name and these arguments. */
async function start(t: TestContext, name: string, ...args: string[]): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), "orphan-"));
  const program = join(dir, name);
  symlinkSync(process.execPath, program);
  const options = { cwd: dir, logFile: join(dir, "log"), onExit: () => {} };
  const pid = await startDetached(program, ["-e", "setInterval(() => {}, 60_000)", "--", ...args], options);
  t.after(async () => {
    const ref = findProcess(pid);
    if (ref !== undefined) await endProcess(ref, 0, never);
    rmSync(dir, { recursive: true });
  });
  return pid;
}

test("every VMM of a run directory is found, whatever its program is called, and nothing else", async (t) => {
  const escaped = RUN_DIR.replaceAll(",", ",,");
  const vmms = [
    await start(t, "my-firecracker", "--api-sock", `${RUN_DIR}/api.sock`, "--level", "Info"),
    await start(t, "jailer-v1.12.1-x86_64", "--id", "vm", "--", "--api-sock", `${RUN_DIR}/api.sock`),
    await start(t, "vmm", "-chardev", `socket,id=qmp,path=${escaped}/qmp.sock,server=on,wait=off`),
  ];
  await start(t, "tail", "-f", `${RUN_DIR}/console.log`);
  await start(t, "socat", "-", `UNIX-CONNECT:${RUN_DIR}/qmp.sock`);
  await start(t, "my-firecracker", "--api-sock", `${RUN_DIR}b/api.sock`);
  const found = findOrphanVmms(RUN_DIR);
  assert.deepEqual(found.map(({ pid }) => pid).toSorted(), vmms.toSorted());
  for (const orphan of found) await endProcess(orphan, 0, never);
  assert.deepEqual(findOrphanVmms(RUN_DIR), []);
});
