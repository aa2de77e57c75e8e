import { command } from "#cli/command.ts";
import { completionsFor } from "#cli/complete-words.ts";

/** The command that the scripts of `hearth completion` call. It prints no errors, because the user is typing. */
export default command({
  path: ["__complete"],
  summary: "Answer a shell's question for candidates",
  args: [{ name: "WORD", many: true, optional: true }],
  flags: {},
  verbatim: true,
  examples: [],
  async run({ args, out, hearth }) {
    const words = args[0] === "--" ? args.slice(1) : args;
    for (const word of await completionsFor(words, hearth)) out.line(word);
  },
});
