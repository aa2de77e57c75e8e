import { formatDurationRounded } from "#base/durations.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["template", "ls"],
  summary: "List templates",
  about:
    "A template is a snapshot of a freshly booted VM. hearthd builds one after the first start of an " +
    "image with given sizes and devices, and later VMs like it start from the template instead of " +
    "booting. IDLE is the time since the template was last used.",
  args: [],
  flags: { quiet: { short: "q", help: "Only print IDs" } },
  examples: [
    ["hearth template ls", "List all templates, newest first"],
    ["hearth template ls -q", "Only print IDs"],
  ],
  async run({ flags, out, hearth }) {
    const templates = await (await hearth()).templates.list();
    if (out.wantsJson) return out.json(templates);
    if (flags.quiet) {
      for (const { id } of templates) out.line(id);
      return;
    }
    if (templates.length === 0)
      return out.note(
        "There are no templates yet. hearthd builds them in the background; `hearth template build debian` builds one now.",
      );
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
    await out.table(["TEMPLATE", "IMAGE", "CPUS", "MEMORY", "DRIVER", "SIZE", "IDLE", "VMS"], rows);
  },
});
