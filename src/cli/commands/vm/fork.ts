import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { LIMITS } from "#model/limits.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["fork"],
  summary: "Create running copies of a running VM",
  about:
    "The VM is paused for a moment. Each copy continues from this moment with the same processes, and with " +
    "its own name, ID and random seed. Copies share memory and disk with the VM until one of them writes. " +
    "A VM with volumes cannot be forked. Either all copies are created, or none. Prints their names, one " +
    "per line.",
  args: [{ name: "VM", help: "Name or ID of the VM", completes: "vm" }],
  flags: {
    count: { short: "n", value: "NUMBER", default: "1", help: `Number of copies, 1 to ${LIMITS.forksMax}` },
    name: {
      value: "NAME",
      default: "name of the VM, with numbers",
      help: "Name of one copy, or prefix of NAME-1, NAME-2, ...",
    },
    rm: { help: "Remove a copy when it stops" },
  },
  examples: [
    ["hearth fork web", "Create web-1, a copy of web"],
    [
      "hearth fork -n 4 --name worker --rm web",
      "Create worker-1 to worker-4, which are removed when they stop",
    ],
  ],
  async run({ args, flags, out, hearth }) {
    const vm = parseVmName(args[0] ?? "");
    const options = {
      ...(flags.count !== undefined && { count: parseCount(flags.count) }),
      ...(flags.name !== undefined && { name: parseVmName(flags.name) }),
      ...(flags.rm && { autoRemove: true }),
    };
    const forks = await (await hearth()).vm(vm).fork(options, { onProgress: out.onProgress });
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
