/**
 * The client against a real Firecracker: all that it answers before a start. The lab has one in PATH; anywhere else
 * HEARTH_FIRECRACKER names another version, for which this needs no KVM: `node --test lab/firecracker-api.test.ts`.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { parseFirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import { waitUntilReady } from "#drivers/firecracker/api/wait-until-ready.ts";
import { parseMetrics } from "#drivers/firecracker/metrics.ts";
import { findProgram } from "#host/find-program.ts";
import { runOrThrow, startDetached } from "#host/run.ts";

const program = process.env["HEARTH_FIRECRACKER"] ?? findProgram("firecracker");
const signal = AbortSignal.timeout(60_000);
const LIMITER = {
  bandwidth: { size: 1_000_000, oneTimeBurst: 500, refillTime: 100 },
  ops: { size: 100, refillTime: 1_000 },
};

/** A Firecracker in a directory of its own, where `disk.img` may be a disk and pass for a kernel. */
async function boot(file: string) {
  const dir = mkdtempSync(join(tmpdir(), "fc-real-"));
  const ended = Promise.withResolvers<Error>();
  for (const name of ["log", "metrics"]) writeFileSync(join(dir, name), "");
  writeFileSync(join(dir, "disk.img"), Buffer.alloc(1024 * 1024));
  const socketPath = join(dir, "api.sock");
  const pid = await startDetached(file, ["--api-sock", socketPath, "--id", "demo"], {
    cwd: dir,
    logFile: join(dir, "out"),
    onExit: (code) => ended.resolve(new Error(`exit code ${code}`)),
  });
  const version = await waitUntilReady({ socketPath, deadlineMs: 30_000, hasEnded: ended.promise }, signal);
  const client = new FirecrackerClient({ socketPath, version });
  return {
    client,
    /** SIGHUP makes Firecracker write its metrics and end. Gives their text. */
    async end(): Promise<string> {
      process.kill(pid, "SIGHUP");
      await ended.promise;
      return readFileSync(join(dir, "metrics"), "utf8");
    },
    [Symbol.dispose](): void {
      rmSync(dir, { recursive: true });
    },
  };
}

test("a real Firecracker takes every section that may be set before the start", async () => {
  assert.ok(program, "there is a Firecracker");
  const asked = await runOrThrow(program, ["--version"], { timeoutMs: 10_000, signal });
  using firecracker = await boot(program);
  const { client } = firecracker;
  assert.deepEqual(client.version, parseFirecrackerVersion(asked));
  assert.equal((await client.describeInstance(signal)).id, "demo");
  await client.configure(
    {
      logger: { logPath: "log", level: "Info", showLevel: true, showLogOrigin: true, module: "api_server" },
      metrics: { metricsPath: "metrics" },
      machineConfig: { vcpuCount: 2, memSizeMib: 256, trackDirtyPages: true, hugePages: "None" },
      cpuConfig: { kvmCapabilities: ["!56"] },
      bootSource: { kernelImagePath: "disk.img", bootArgs: "quiet", initrdPath: "disk.img" },
      drives: [{ driveId: "rootfs", isRootDevice: true, pathOnHost: "disk.img", rateLimiter: LIMITER }],
      vsock: { guestCid: 3, udsPath: "v.sock" },
      entropy: { rateLimiter: LIMITER },
      balloon: { amountMib: 1, deflateOnOom: true, statsPollingIntervalS: 1 },
      mmdsContents: { some_key: { kept: null, list: [1] } },
    },
    signal,
  );
  await client.patchMachineConfig({ vcpuCount: 4 }, signal);
  assert.equal((await client.getMachineConfig(signal)).vcpuCount, 4);
  assert.equal((await client.getBalloon(signal)).statsPollingIntervalS, 1);
  await client.patchMmds({ some_key: { list: null } }, signal);
  assert.deepEqual(await client.getMmds(signal), { some_key: { kept: null } });
  const config = await client.getVmConfig(signal);
  assert.deepEqual(config.drives?.[0]?.rateLimiter, LIMITER);
  assert.deepEqual(config.vsock, { guestCid: 3, udsPath: "v.sock" });
  assert.deepEqual(config.entropy, { rateLimiter: LIMITER });
  const [line = ""] = (await firecracker.end()).split("\n");
  assert.ok(parseMetrics(line).utcTimestampMs > 0);
});

test("a real Firecracker refuses with a reason, which is told", async () => {
  assert.ok(program, "there is a Firecracker");
  using firecracker = await boot(program);
  const { client } = firecracker;
  const refusals: readonly [() => Promise<unknown>, RegExp][] = [
    [() => client.pauseVm(signal), /^Firecracker refused PATCH \/vm with status 400: .+\.$/],
    [
      () => client.getBalloonStatistics(signal),
      /^Firecracker refused GET \/balloon\/statistics with status 400/,
    ],
    [() => client.startInstance(signal), /PUT \/actions with status 400: .*[Kk]ernel/],
  ];
  for (const [ask, message] of refusals) await assert.rejects(ask, { code: "vmm.failed", message });
  assert.equal((await client.describeInstance(signal)).state, "Not started");
  await firecracker.end();
});
