import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

const run = promisify(execFile);
const MODULE = join(import.meta.dirname, "exit-process.ts");
/** Makes V8's workers allocate all the time, so that they wait for collections on the main thread. */
const STRESS = ["--stress-concurrent-allocation"];
/** A process that hangs does so for ever; otherwise it ends within a tenth of a second. */
const HANGS_MS = 20_000;
const TIMES = 24;
const AT_ONCE = 4;

type Ended = { readonly code?: number; readonly signal?: string; readonly stdout?: string };

/** A program with a heap that is being collected, and this end. */
async function ended(end: string, flags = STRESS): Promise<Ended> {
  const program = `
    import { exitProcess, abandonProcess } from ${JSON.stringify(MODULE)};
    const kept = Array.from({ length: 60_000 }, (_, n) => ({ n, text: "x" + n, list: [n, n + 1] }));
    process.stdout.write(String(kept.length));
    ${end}`;
  const args = [...flags, "--input-type=module", "--eval", program];
  return run(process.execPath, args, { timeout: HANGS_MS, killSignal: "SIGABRT" }).then(
    ({ stdout }) => ({ code: 0, stdout }),
    (error: unknown) => error as Ended,
  );
}

test("a process ends with its exit code and its output while V8's workers allocate", async () => {
  for (let times = 0; times < TIMES; times += AT_ONCE) {
    const all = await Promise.all(Array.from({ length: AT_ONCE }, () => ended("exitProcess(7);")));
    for (const { code, stdout } of all) assert.deepEqual({ code, stdout }, { code: 7, stdout: "60000" });
  }
});

test("a pending read from stdin does not keep the process alive", async () => {
  const { code } = await ended("setInterval(() => {}, 1_000); exitProcess(7);", []);
  assert.equal(code, 7);
});

test("an abandoned process runs no more code", async () => {
  const { signal, stdout } = await ended(
    'try { abandonProcess(); } finally { process.stdout.write("more"); }',
  );
  assert.deepEqual({ signal, stdout }, { signal: "SIGKILL", stdout: "60000" });
});
