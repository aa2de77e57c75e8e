import assert from "node:assert/strict";
import { test } from "node:test";
import { run } from "#host/run.ts";

const MODULE = new URL("event-loop.ts", import.meta.url).href;
/** Waits like a recovery for a guest that was told to power off, and whose connection is closed. */
const WAITS = `await new Promise((resolve) => AbortSignal.timeout(50).addEventListener("abort", resolve))`;

async function exitCodeOf(script: string): Promise<number | undefined> {
  const args = ["--disable-warning=ExperimentalWarning", "--input-type=module", "--eval", script];
  const result = await run(process.execPath, args, {
    timeoutMs: 60_000,
    signal: AbortSignal.timeout(60_000),
  });
  return result.ok ? 0 : result.code;
}

test("a process that waits only for a deadline does not end while it blocks its event loop", async () => {
  assert.equal(await exitCodeOf(WAITS), 13, "it ends in the middle of the wait otherwise");
  const held = `import { blockEventLoop } from ${JSON.stringify(MODULE)}; { using held = blockEventLoop(); ${WAITS}; }`;
  assert.equal(await exitCodeOf(held), 0);
});
