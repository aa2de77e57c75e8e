import { formatDurationRounded } from "#base/durations.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["warm", "ls"],
  summary: "List the warm templates, from which VMs start",
  about:
    "A template is a VM that was saved as soon as it had booted. hearthd makes one behind the first VM of an image and " +
    "a shape, and later ones start from it. IDLE is how long none has.",
  args: [],
  flags: { quiet: { short: "q", help: "Print ids alone" } },
  examples: [
    ["hearth warm ls", "Newest first, with how many VMs use them"],
    ["hearth warm ls -q", "Ids alone"],
  ],
  async run({ flags, out, hearth }) {
    const templates = await (await hearth()).warm.list();
    if (out.wantsJson) return out.json(templates);
    if (flags.quiet) {
      for (const { id } of templates) out.line(id);
      return;
    }
    if (templates.length === 0)
      return out.note("There are no templates yet. hearthd makes them, and `hearth warm build debian` does.");
    const rows = templates.map((template) => [
      template.id,
      template.image,
      String(template.cpus),
      formatSizeRounded(template.memoryBytes),
      template.driver ?? "-",
      formatSizeRounded(template.allocatedBytes),
      formatDurationRounded(Math.max(0, Date.now() - template.lastUsedAtMs)),
      String(template.usedBy.length),
    ]);
    out.table(["TEMPLATE", "IMAGE", "CPUS", "MEMORY", "DRIVER", "SIZE", "IDLE", "VMS"], rows);
  },
});
