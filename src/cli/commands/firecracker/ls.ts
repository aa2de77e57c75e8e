import { command } from "#cli/command.ts";

export default command({
  path: ["firecracker", "ls"],
  summary: "List Firecracker installations",
  about:
    "Lists them in the order in which Hearth tries them: config.toml, PATH, the cache. * marks the one in " +
    "use.",
  args: [],
  flags: {},
  examples: [["hearth firecracker ls", "List all, with the reason why one is not used"]],
  async run({ out, hearth }) {
    const all = await (await hearth()).firecracker.list();
    if (out.wantsJson) return out.json(all);
    if (all.length === 0)
      return out.note("Firecracker is not installed. `hearth firecracker install` installs it.");
    const rows = all.map(({ used, version, source, program }) => [
      used ? "*" : "",
      version ?? "refused",
      source,
      program,
    ]);
    await out.table(["", "VERSION", "SOURCE", "PROGRAM"], rows);
    for (const { refused } of all) if (refused !== undefined) out.note(`${refused.reason} ${refused.hint}`);
  },
});
