import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { attach } from "#cli/attach.ts";
import { command } from "#cli/command.ts";
import { EXEC_FLAGS, execRequest, readEnv } from "#cli/exec-flags.ts";

const { env, envFile, user, workdir } = EXEC_FLAGS;

export default command({
  path: ["shell"],
  summary: "Open a shell in a VM",
  about:
    "A login shell with a terminal. Leaving it leaves the VM as it is. Through a pipe, sh reads its commands there.",
  args: [{ name: "VM", help: "Name or id", completes: "vm" }],
  flags: { env, envFile, user, workdir },
  exitsLikeGuest: true,
  examples: [
    ["hearth shell web", "As the image's own user"],
    ["hearth shell -u www-data -w /srv web", "As another, somewhere else"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const [name = ""] = args;
    const vmName = parseVmName(name);
    if (out.wantsJson) {
      throw new HearthError("input.invalid", "shell: a shell has no JSON.", {
        hint: `Write \`hearth exec --json ${vmName} -- COMMAND\`.`,
      });
    }
    const tty = io.stdinIsTerminal;
    const stdio = { tty, stdin: true };
    const variables = readEnv(flags, io);
    const plain = { ...flags, interactive: true, tty, detach: false };
    // With a terminal an empty command is the user's own login shell; without one it would be the image's command.
    const exec = execRequest(tty ? [] : ["sh", "-l"], variables, plain, stdio, io);
    const client = await hearth();
    const open = (signal: AbortSignal) => client.vm(vmName).spawn(exec.argv, { ...exec, signal });
    return attach({ open, ...stdio, client, vmName }, io, out);
  },
});
