import { HearthError } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { confirm } from "#cli/confirm.ts";
import { eachVm } from "#cli/each-vm.ts";

/** The exit code of a program that SIGINT ended. */
const INTERRUPTED = 130;

export default command({
  path: ["prune"],
  summary: "Remove all stopped VMs",
  about:
    "Also removes VMs that failed or were never started. Lists the VMs and asks for confirmation, unless " +
    "-f is given. Running, paused and suspended VMs stay.",
  args: [],
  flags: { force: { short: "f", help: "Do not ask for confirmation" } },
  examples: [
    ["hearth prune", "Ask, then remove"],
    ["hearth prune -f", "Remove without asking, in scripts"],
  ],
  async run({ flags, io, out, hearth }) {
    const client = await hearth();
    const idle = (await client.vms.list()).filter(({ phase }) =>
      ["created", "stopped", "failed"].includes(phase),
    );
    if (idle.length === 0) {
      if (out.wantsJson) out.json([]);
      else out.note("There is nothing to remove: no VM is stopped.");
      return;
    }
    const names = idle.map(({ name }) => name);
    if (!flags.force) {
      if (!io.stdinIsTerminal) {
        const hint = "Use `hearth prune -f` to remove without asking.";
        throw new HearthError(
          "input.invalid",
          "prune: cannot ask for confirmation, because stdin is not a terminal.",
          { hint },
        );
      }
      const answer = await confirm(io, `Remove ${names.join(", ")} and all their data? [y/N] `);
      if (answer !== "yes") return answer === "interrupted" ? INTERRUPTED : 1;
    }
    const removed = async (name: string) => {
      // A VM that was started since it was listed stays.
      await client.vm(name).remove();
      return { result: { name, removed: true } };
    };
    if (names.length === 1 && out.wantsJson) {
      await removed(names[0] ?? "");
      return out.json([{ name: names[0], removed: true }]);
    }
    return eachVm(names, out, removed);
  },
});
