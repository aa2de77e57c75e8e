import { command } from "#cli/command.ts";

export default command({
  path: ["firecracker", "ls"],
  summary: "List the Firecrackers that Hearth finds",
  about:
    "In the order in which they are tried: config.toml, PATH, the cache. A * marks the one that is used.",
  args: [],
  flags: {},
  examples: [["hearth firecracker ls", "With the reason where one is refused"]],
  async run({ out, hearth }) {
    const all = await (await hearth()).firecracker.list();
    if (out.wantsJson) return out.json(all);
    if (all.length === 0)
      return out.note("There is no Firecracker yet. `hearth firecracker install` installs one.");
    const rows = all.map(({ used, version, source, program }) => [
      used ? "*" : "",
      version ?? "refused",
      source,
      program,
    ]);
    out.table(["", "VERSION", "SOURCE", "PROGRAM"], rows);
    for (const { refused } of all) if (refused !== undefined) out.note(`${refused.reason} ${refused.hint}`);
  },
});
