import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { endProcess, waitForEnd } from "#host/process-end.ts";
import { findProcess, readUsage } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { startDetached } from "#host/run.ts";
import { findProcessesNaming } from "#host/find-processes.ts";

const never = new AbortController().signal;

class Child implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), "child-"));
  #ref: ProcessRef | undefined;

  async start(file: string, ...args: string[]): Promise<ProcessRef> {
    const options = { cwd: this.dir, logFile: join(this.dir, "log"), onExit: () => {} };
    this.#ref = findProcess(await startDetached(file, args, options));
    assert.ok(this.#ref);
    return this.#ref;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ref !== undefined) await endProcess(this.#ref, 0, never);
    rmSync(this.dir, { recursive: true });
  }
}

describe("ending a process", () => {
  test("takes SIGTERM if that is enough, and a second call does nothing", async () => {
    await using child = new Child();
    const ref = await child.start("sleep", "600");
    assert.equal(await endProcess(ref, 60_000, never), "SIGTERM");
    assert.equal(await endProcess(ref, 60_000, never), undefined);
  });

  test("takes SIGKILL if the process is stopped", async () => {
    await using child = new Child();
    const ref = await child.start("sleep", "600");
    process.kill(ref.pid, "SIGSTOP");
    // The kernel would deliver SIGTERM first if both signals were pending.
    while (!/^State:\s+T/m.test(readFileSync(`/proc/${ref.pid}/status`, "utf8"))) await setImmediate();
    assert.equal(await endProcess(ref, 50, never), "SIGKILL");
  });

  test("does nothing to another process with the same pid", async () => {
    await using child = new Child();
    const ref = await child.start("sleep", "600");
    for (const gone of [
      { ...ref, startTicks: ref.startTicks - 1 },
      { ...ref, hostBootId: "another boot" },
    ]) {
      assert.equal(await endProcess(gone, 0, never), undefined);
      assert.equal(readUsage(gone), undefined, "and so nobody waits for its end");
    }
    assert.equal(await waitForEnd(ref, 0, never), false);
  });
});

test("a process is found by a directory on its command line, and only if its program matches", async () => {
  await using child = new Child();
  const ref = await child.start("tail", "-f", join(child.dir, "log"));
  assert.deepEqual(findProcessesNaming([child.dir], /^tail$/), [ref]);
  assert.deepEqual(findProcessesNaming([child.dir], /^sleep$/), []);
  assert.deepEqual(findProcessesNaming([child.dir.slice(0, -1)], /^tail$/), []);
});
