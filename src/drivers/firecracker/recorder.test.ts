import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { FirecrackerRecorder } from "#drivers/firecracker/recorder.ts";
import { readTail } from "#host/bounded-file.ts";
import { FakeFirecrackerVm } from "#testing/fake-firecracker-vm.ts";

const signal = AbortSignal.timeout(60_000);

test("the VMM's log leaves out heartbeats and lines about limited requests", async () => {
  await using vm = await FakeFirecrackerVm.start();
  const { stateDir } = vm.handle;
  const recorder = new FirecrackerRecorder({
    files: vm.files,
    stateDir,
    logMaxBytes: 10_000,
    resumed: false,
    onTrouble: (_, error) => assert.fail(String(error)),
  });
  const time = "2026-11-22T09:00:00.000000000 [anonymous-instance";
  vm.log(`${time}:fc_api:INFO] The API server received a Get request on "/".`);
  vm.log(`${time}:fc_api:INFO] The request was executed successfully. Status code: 200 OK.`);
  vm.log(`${time}:main:ERROR] Consumed 131072 tokens from bucket of size 104857`);
  const kept = `${time}:main:INFO] Firecracker exiting successfully. exit_code=0`;
  vm.log(kept);
  const written = (): string => readTail(join(stateDir, "vmm.log"), 10_000);
  // Earlier lines have been read by then.
  while (!written().includes(kept)) await nextTurn(undefined, { signal });
  assert.equal(written(), `${kept}\n`);
  recorder.stop();
});
