import { parseVolumeName } from "#model/ids.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["volume", "rm"],
  summary: "Remove volumes and their data",
  about: "A volume that is attached to a VM is not removed, even if the VM is stopped.",
  args: [{ name: "VOLUME", many: true, help: "Names of the volumes", completes: "volume" }],
  flags: {},
  examples: [["hearth volume rm data", "Remove a volume; all data on it is lost"]],
  async run({ args, out, hearth }) {
    const names = [...new Set(args.map(parseVolumeName))];
    const client = await hearth();
    const outcomes = await Promise.allSettled(names.map((name) => client.volumes.remove(name)));
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (names.length === 1 && failed !== undefined) throw failed.reason;
    const removed = names.filter((_, index) => outcomes[index]?.status === "fulfilled");
    if (out.wantsJson) out.json(removed.map((name) => ({ name, removed: true })));
    else for (const name of removed) out.line(name);
    for (const outcome of outcomes) if (outcome.status === "rejected") out.errorForPeople(outcome.reason);
    return failed === undefined ? 0 : 1;
  },
});
