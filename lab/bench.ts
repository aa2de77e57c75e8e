/**
 * Measures what Hearth adds to Firecracker's time: `npm run lab -- node lab/bench.ts [PAIRS]`. KVM is emulated in the
 * lab, so that only the ratios count.
 */
import { mkdirSync, mkdtempSync } from "node:fs";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import { waitUntilReady } from "#drivers/firecracker/api/wait-until-ready.ts";
import { makeRunFiles } from "#drivers/firecracker/run-dir.ts";
import { AGENT_VSOCK_PORT, firecrackerConfig, firecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { FirecrackerDriver } from "#drivers/firecracker/firecracker-driver.ts";
import { findFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";
import { waitForAgent } from "#guest/wait-for-agent.ts";
import { describeLine, TABLE_HEAD } from "../bench/line.ts";
import { interleave, median } from "../bench/pairs.ts";
import { runCli } from "../e2e/run-cli.ts";
import { FirecrackerPlans } from "./firecracker-plans.ts";
import { execTrue, SavedGuest } from "./saved-guest.ts";

const PAIRS = 6;
const BOOT_MS = 180_000;
const CACHE = join(process.env["HEARTH_E2E_CACHE"] ?? "/srv/cache", "hearth");
const { signal } = new AbortController();

type Bare = { readonly apiMs: number; readonly startedMs: number; readonly readyMs: number };

const dir = mkdtempSync("/srv/bench-");
const plans = new FirecrackerPlans(CACHE, dir);
const driver = new FirecrackerDriver({
  find: () => findFirecracker({ cacheDir: CACHE }, signal),
  kvm: () => Promise.resolve("works"),
});
await main(Number(process.argv[2] ?? PAIRS));

async function main(pairs: number): Promise<void> {
  const env = hearthEnv();
  await interleave(
    1,
    () => hearth(env, "no"),
    async () => (await bareRun()).readyMs,
  );
  console.log(TABLE_HEAD);
  const runs = await interleave(
    pairs,
    () => hearth(env, "no"),
    async () => (await bareRun()).readyMs,
  );
  console.log(describeLine({ what: "run --rm debian -- true", unit: "ms", ...runs, bound: { atMost: 1.2 } }));
  const jailed = await interleave(
    pairs,
    () => driverBoot(true),
    () => driverBoot(false),
  );
  console.log(
    describeLine({ what: "jailed start, to its agent", unit: "ms", ...jailed, bound: { atMost: 1.1 } }),
  );
  await compareRestores(env, pairs);
  const parts: Bare[] = [];
  for (let n = 0; n < pairs; n += 1) parts.push(await bareRun());
  console.log(`\nFirecracker alone: ${ms(parts.map(({ apiMs }) => apiMs))} to its API, then`);
  console.log(`${ms(parts.map(({ apiMs, startedMs }) => startedMs - apiMs))} of API calls to InstanceStart`);
}

async function compareRestores(env: Record<string, string>, pairs: number): Promise<void> {
  const guest = await SavedGuest.make(plans, driver, join(dir, "saved"));
  const ours = (): Promise<number> => guest.restoreByDriver();
  const compare = async (what: string, one: typeof ours, other: typeof ours, atMost: number): Promise<void> =>
    console.log(
      describeLine({ what, unit: "ms", ...(await interleave(pairs, one, other)), bound: { atMost } }),
    );
  await interleave(1, ours, () => guest.restoreBare());
  await compare("restore, first exec; to a boot", ours, () => guest.bootByDriver(), 1);
  // As for QEMU on the host: bench/rows/warm-bare.ts.
  await compare("the same; to bare API calls", ours, () => guest.restoreBare(), 1.35);
  await hearth(env, "build");
  await hearth(env, "yes");
  const cold = (): Promise<number> => hearth(env, "no");
  await compare("warm run; to a cold one", () => hearth(env, "yes"), cold, 1);
}

function ms(values: readonly number[]): string {
  return `${median(values).toFixed(0)} ms`;
}

function hearthEnv(): Record<string, string> {
  const home = join(dir, "home");
  mkdirSync(home);
  return {
    HOME: home,
    PATH: process.env["PATH"] ?? "",
    XDG_CONFIG_HOME: join(home, "config"),
    XDG_STATE_HOME: join(home, "state"),
    XDG_RUNTIME_DIR: join(home, "run"),
    XDG_CACHE_HOME: join(CACHE, ".."),
    NODE_COMPILE_CACHE: process.env["NODE_COMPILE_CACHE"] ?? join(home, "compile"),
  };
}

/** As a person runs it, the whole command; or what makes the template for the next one. */
async function hearth(env: Record<string, string>, warm: "yes" | "no" | "build"): Promise<number> {
  const startedMs = performance.now();
  const program = join(import.meta.dirname, "../bin/hearth.ts");
  const shape = ["--driver", "firecracker", "--cpus", "1", "--memory", "256M"];
  const words = warm === "build" ? ["warm", "build", ...shape, "debian"] : ["run", "--rm", ...shape];
  const flags = warm === "no" ? ["--cold", "--no-warm"] : [];
  const command = warm === "build" ? [] : [...flags, "debian", "--", "true"];
  const { code, stderr } = await runCli(process.execPath, [program, ...words, ...command], { env });
  if (code !== 0) throw new Error(stderr);
  return performance.now() - startedMs;
}

/** The shortest way to the same: a disk, Firecracker, its configuration, the agent, one command. */
async function bareRun(): Promise<Bare> {
  const startMs = performance.now();
  using vm = await plans.make(false);
  const files = firecrackerFiles(vm.plan.runDir);
  await makeRunFiles(vm.plan, signal);
  const vmm = spawn("firecracker", ["--api-sock", files.api], { cwd: vm.plan.runDir, stdio: "ignore" });
  const ended = once(vmm, "exit");
  try {
    const hasEnded = ended.then(([code]) => new Error(`Firecracker ended with ${code}.`));
    const version = await waitUntilReady({ socketPath: files.api, deadlineMs: BOOT_MS, hasEnded }, signal);
    const apiMs = performance.now() - startMs;
    const client = new FirecrackerClient({ socketPath: files.api, version });
    await client.configure(firecrackerConfig(vm.plan), signal);
    await client.startInstance(signal);
    const startedMs = performance.now() - startMs;
    await execTrue({ agentSocket: files.vsock, agentVsockPort: AGENT_VSOCK_PORT }, async () => {});
    return { apiMs, startedMs, readyMs: performance.now() - startMs };
  } finally {
    vmm.kill("SIGKILL");
    await ended;
  }
}

async function driverBoot(jail: boolean): Promise<number> {
  using vm = await plans.make(jail);
  const startMs = performance.now();
  const handle = await driver.boot(vm.plan, () => {}, signal);
  try {
    const { agent } = await waitForAgent(handle, { deadlineMs: BOOT_MS }, signal);
    agent.close();
    return performance.now() - startMs;
  } finally {
    await driver.stop(handle, "kill", signal);
  }
}
