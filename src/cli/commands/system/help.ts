import { HearthError } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { findCommand, NOUNS, withPresentNoun } from "#cli/find-command.ts";
import { commandHelp, nounHelp, overview, unknownCommand } from "#cli/help.ts";

export default command({
  path: ["help"],
  summary: "Show the help of a command",
  args: [
    {
      name: "COMMAND",
      many: true,
      optional: true,
      help: "Command, such as `run` or `image build`",
      completes: "command",
    },
  ],
  flags: {},
  examples: [
    ["hearth help", "List all commands"],
    ["hearth help image build", "Show the help of one command"],
  ],
  async run({ args, out }) {
    const text = await helpFor(args);
    if (out.wantsJson) out.json({ help: text });
    else out.text(text);
  },
});

async function helpFor(words: readonly string[]): Promise<string> {
  if (words.length === 0) return overview();
  const found = findCommand(words);
  if (found !== undefined && found.rest.length === 0) return commandHelp((await found.load()).default);
  const [noun = ""] = withPresentNoun(words);
  if (words.length === 1 && (NOUNS as readonly string[]).includes(noun)) return nounHelp(noun);
  const error: HearthError = unknownCommand(words);
  throw error;
}
