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
  summary: "Show what VMs use of the host",
  about:
    "CPU in percent of one host CPU, so 200% is two whole ones; MEMORY is what is resident of the VMM; GUEST what the guest has of its memory; DISK the " +
    "blocks that the VM's writable disk takes, of what it could take. With --json also what the VMM itself counts, as vmm, where it counts. " +
    "Without names, all VMs that run.",
  args: [{ name: "VM", many: true, optional: true, help: "Names or ids", completes: "vm" }],
  flags: { watch: { help: "Again every two seconds, until Ctrl-C; with --json a line each time" } },
  examples: [
    ["hearth stats", "All that run"],
    ["hearth stats --watch web", "Live"],
    ["hearth stats --json web", "For programs"],
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
      else if (readings.length === 0) out.note("No VM runs.");
      else out.table(HEAD, readings.map(row));
      if (!flags.watch) return;
      await sleep(EVERY_MS);
    }
  },
});

async function read(client: Hearth, names: readonly string[]): Promise<readonly VmStats[]> {
  if (names.length > 0) return Promise.all(names.map((name) => client.vm(name).stats()));
  const running = (await client.vms.list()).filter(({ phase }) => phase === "running" || phase === "paused");
  const readings = await Promise.allSettled(running.map(({ name }) => client.vm(name).stats()));
  // One that ended since the list was made is no error: nobody named it.
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
