import { setTimeout as sleep } from "node:timers/promises";
import { readUsage, TICKS_PER_SECOND } from "#host/procfs.ts";
import type { ProcessRef, ProcessUsage } from "#host/procfs.ts";
import { HearthHome } from "../hearth-home.ts";
import type { Line } from "../line.ts";
import type { Row } from "../row.ts";
import { COLD, Template } from "../template.ts";

const MIB = 1024 ** 2;
const RUNS = 20;
const VMS = ["bench-a", "bench-b", "bench-c", "bench-d"];
const IDLE_MS = 30_000;
/** Garbage comes and goes: the smallest of several readings is what is held. */
const READINGS = 20;
const READING_EVERY_MS = 250;

/** Measures a fresh hearthd that gets no requests. */
export const IDLE: Row = {
  name: "idle",
  async run({ say }) {
    await using home = new HearthHome();
    // A first one compiles what all later ones find compiled, once it has ended.
    await home.hearth("ls");
    await home.hearth("daemon", "stop");
    await home.hearth("ls");
    const daemon = await home.daemon();
    const fresh = await restingMib(daemon);
    say(`idle: a template, and ${RUNS} runs from it`);
    const template = await Template.build(home, []);
    for (let done = 0; done < RUNS; done++) await home.hearth("run", "--rm", "debian", "--", "true");
    await template.assertUsed();
    const used = await restingMib(daemon);
    const cpuWithout = await idleCpuPercent(daemon);
    say(`idle: ${VMS.length} VMs`);
    for (const name of VMS)
      await home.hearth("create", ...COLD, "--memory", "256M", "--name", name, "debian");
    const withVms = await restingMib(daemon);
    const cpuWith = await idleCpuPercent(daemon);
    const rss = (mib: number) => ({ unit: "MiB", bound: { atMost: mib } }) as const;
    const cpu = { unit: "%", bound: { atMost: 0.5 } } as const;
    const lines: Line[] = [
      { what: "hearthd RSS, just started", ours: [fresh], ...rss(105) },
      { what: `hearthd RSS after ${RUNS} runs`, ours: [used], ...rss(125) },
      { what: "hearthd CPU, no VM", ours: [cpuWithout], ...cpu },
      { what: `hearthd CPU, ${VMS.length} VMs`, ours: [cpuWith], ...cpu },
      {
        what: "hearthd RSS per running VM",
        unit: "MiB",
        ours: [(withVms - used) / VMS.length],
        bound: { atMost: 1 },
      },
    ];
    return lines;
  },
};

async function restingMib(daemon: ProcessRef): Promise<number> {
  const readings: number[] = [];
  for (let done = 0; done < READINGS; done++) {
    await sleep(READING_EVERY_MS);
    readings.push(usageOf(daemon).rssBytes / MIB);
  }
  return Math.min(...readings);
}

async function idleCpuPercent(daemon: ProcessRef): Promise<number> {
  const before = usageOf(daemon).cpuTicks;
  const startedMs = performance.now();
  await sleep(IDLE_MS);
  const seconds = (performance.now() - startedMs) / 1000;
  return ((usageOf(daemon).cpuTicks - before) / TICKS_PER_SECOND / seconds) * 100;
}

function usageOf(daemon: ProcessRef): ProcessUsage {
  const usage = readUsage(daemon);
  if (usage === undefined) throw new Error("hearthd has ended.");
  return usage;
}
