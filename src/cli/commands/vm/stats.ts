import { setTimeout as sleep } from "node:timers/promises";
import type { VmStats } from "#api/wire.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { parseVmName } from "#model/ids.ts";
import { command } from "#cli/command.ts";
import type { Hearth } from "#sdk/hearth.ts";

const EVERY_MS = 2_000;
const HOME_AND_CLEAR = "\u001b[H\u001b[2J";
const HEAD = ["NAME", "STATE", "CPU", "MEMORY", "GUEST", "DISK"];

export default command({
  path: ["stats"],
  summary: "Show the resource usage of VMs",
  about:
    "CPU is in percent of one host CPU, so 200% means two full CPUs. MEMORY is the resident memory of the " +
    "VMM, GUEST the memory that the guest has, and DISK the space that the writable disk uses and its " +
    "size. With --json, `vmm` has the counters of the VMM itself, if it has any. Without names, all " +
    "running and paused VMs are shown.",
  args: [{ name: "VM", many: true, optional: true, help: "Names or IDs of the VMs", completes: "vm" }],
  flags: { watch: { help: "Repeat every 2 seconds until Ctrl-C; with --json, one line each time" } },
  examples: [
    ["hearth stats", "Show all running VMs"],
    ["hearth stats --watch web", "Watch one VM"],
    ["hearth stats --json web", "Print JSON for programs"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const names = [...new Set<string>(args.map(parseVmName))];
    const client = await hearth();
    const inPlace = flags.watch && io.stdout.isTTY === true && !out.wantsJson;
    for (;;) {
      const readings = await read(client, names);
      if (inPlace) io.stdout.write(HOME_AND_CLEAR);
      if (out.wantsJson && flags.watch) out.jsonLine(readings);
      else if (out.wantsJson) out.json(readings);
      else if (readings.length === 0) out.note("No VM is running.");
      else await out.table(HEAD, readings.map(row));
      if (!flags.watch) return;
      await sleep(EVERY_MS);
    }
  },
});

async function read(client: Hearth, names: readonly string[]): Promise<readonly VmStats[]> {
  if (names.length > 0) return Promise.all(names.map((name) => client.vm(name).stats()));
  const running = (await client.vms.list()).filter(({ phase }) => phase === "running" || phase === "paused");
  const readings = await Promise.allSettled(running.map(({ name }) => client.vm(name).stats()));
  // A VM that has ended since it was listed is not an error, because the user did not name it.
  return readings.flatMap((reading) => (reading.status === "fulfilled" ? [reading.value] : []));
}

function row(stats: VmStats): readonly string[] {
  const disk = `${formatSizeRounded(stats.diskAllocatedBytes)} / ${formatSizeRounded(stats.diskBytes)}`;
  return [
    stats.name,
    stats.phase,
    `${stats.cpuPercent.toFixed(1)}%`,
    formatSizeRounded(stats.rssBytes),
    stats.memoryBytes === undefined ? "-" : formatSizeRounded(stats.memoryBytes),
    disk,
  ];
}
