import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { LIMITS } from "#model/limits.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["fork"],
  summary: "Make running copies of a VM that runs",
  about:
    "The VM is halted for a moment and goes on; each copy goes on from the same moment, with the same processes, and " +
    "with a name, an id and randomness of its own. Memory and disk are shared until somebody writes. All copies are " +
    "made, or none. Prints their names, one a line.",
  args: [{ name: "VM", help: "Name or id", completes: "vm" }],
  flags: {
    count: { short: "n", value: "NUMBER", help: `How many, 1 to ${LIMITS.forksMax}; 1 unless given` },
    name: { value: "NAME", help: "NAME for one copy, NAME-1, NAME-2, ... for several; else after the VM" },
    rm: { help: "Remove a copy as soon as it does not run any more" },
  },
  examples: [
    ["hearth fork web", "web-1, which is where web is"],
    ["hearth fork -n 4 --name worker --rm web", "worker-1 to worker-4, gone when they stop"],
  ],
  async run({ args, flags, out, hearth }) {
    const vm = parseVmName(args[0] ?? "");
    const how = {
      ...(flags.count !== undefined && { count: parseCount(flags.count) }),
      ...(flags.name !== undefined && { name: parseVmName(flags.name) }),
      ...(flags.rm && { autoRemove: true }),
    };
    const forks = await (await hearth()).vm(vm).fork(how, { onProgress: out.onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(await Promise.all(forks.map((fork) => fork.show())));
    for (const fork of forks) out.line(fork.name);
    out.note(`Next: hearth shell ${forks[0]?.name}`);
  },
});

function parseCount(text: string): number {
  const count = Number(text);
  if (/^\d{1,6}$/.test(text) && count >= 1 && count <= LIMITS.forksMax) return count;
  throw new HearthError("input.invalid", `count: "${text}" is not a number of copies.`, {
    hint: `Write a whole number from 1 to ${LIMITS.forksMax}.`,
  });
}
