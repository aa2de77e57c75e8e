import { parseVolumeName } from "#model/ids.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["volume", "rm"],
  summary: "Remove volumes with their data",
  about: "One that a VM names is not removed, whether the VM runs or not.",
  args: [{ name: "VOLUME", many: true, completes: "volume" }],
  flags: {},
  examples: [["hearth volume rm data", "What was in it is gone"]],
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
