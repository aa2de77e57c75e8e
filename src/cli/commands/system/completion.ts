import { command } from "#cli/command.ts";
import { HearthError } from "#base/error.ts";
import { COMPLETION_SCRIPTS } from "#cli/completion-scripts.ts";

const SHELLS = Object.keys(COMPLETION_SCRIPTS) as (keyof typeof COMPLETION_SCRIPTS)[];

export default command({
  path: ["completion"],
  summary: "Print a shell completion script",
  about: "Completes commands, flags, paths, and the names of VMs, images, volumes and snapshots.",
  args: [{ name: "SHELL", help: `Shell: ${SHELLS.join(", ")}` }],
  flags: {},
  examples: [
    ['eval "$(hearth completion bash)"', "Enable completion in this bash; put it into ~/.bashrc for all"],
    ["hearth completion zsh > ~/.zfunc/_hearth", "Install it into a directory of the fpath of zsh"],
    ["hearth completion fish > ~/.config/fish/completions/hearth.fish", "Install it for fish"],
  ],
  run({ args, out }) {
    const shell = SHELLS.find((name) => name === args[0]);
    if (shell === undefined) {
      const hint = `Choose one of ${SHELLS.join(", ")}.`;
      throw new HearthError(
        "input.invalid",
        `completion: ${JSON.stringify(args[0])} is not a supported shell.`,
        { hint },
      );
    }
    if (out.wantsJson) out.json({ shell, script: COMPLETION_SCRIPTS[shell] });
    else out.text(COMPLETION_SCRIPTS[shell]);
    return Promise.resolve();
  },
});
