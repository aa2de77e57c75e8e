import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { attach } from "#cli/attach.ts";
import type { Attach } from "#cli/attach.ts";
import { command } from "#cli/command.ts";
import { DETACH_FLAG, parseDetachKeys } from "#cli/detach-keys.ts";
import { EXEC_FLAGS, execRequest, OF_VM_FLAGS, readEnv } from "#cli/exec-flags.ts";

const { env, envFile } = EXEC_FLAGS;
const { user, workdir } = OF_VM_FLAGS;

export default command({
  path: ["shell"],
  summary: "Open a shell in a VM",
  about:
    "Opens the login shell of the user, with a terminal, in the home directory (or in --workdir). The " +
    "shell reads the profile; LANG is C.UTF-8 unless something sets it. The VM keeps running when the " +
    "shell ends. The detach keys hang up the shell and its foreground command, as closing the terminal " +
    "window does. If stdin is a pipe, sh reads commands from it.",
  args: [{ name: "VM", help: "Name or ID of the VM", completes: "vm" }],
  flags: {
    env,
    envFile,
    user,
    workdir: { ...workdir, default: "home directory" },
    ...DETACH_FLAG,
    json: { help: "Not supported: a shell has no result to print", hidden: true },
    noLogin: { help: "Run the command of the image instead of a login shell" },
  },
  exitsLikeGuest: true,
  examples: [
    ["hearth shell web", "Open a shell as the user of the VM"],
    ["hearth shell --no-login web", "Run the command of the image, without a profile"],
    ["hearth shell -u www-data -w /srv web", "Open a shell as another user, in another directory"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const [name = ""] = args;
    const vmName = parseVmName(name);
    if (out.wantsJson) {
      throw new HearthError("input.invalid", "shell: --json is not supported.", {
        hint: `Write \`hearth exec --json ${vmName} -- COMMAND\`.`,
      });
    }
    const tty = io.stdinIsTerminal;
    const stdio = { tty, stdin: true };
    const variables = readEnv(flags, io);
    const plain = { ...flags, interactive: true, tty, detach: false };
    const detachKeys = parseDetachKeys(flags.detachKeys);
    const exec = execRequest(shellCommand(tty, flags), variables, plain, stdio, io);
    const client = await hearth();
    const open: Attach["open"] = (signal, onSent) =>
      client.vm(vmName).spawn(exec.argv, { ...exec, signal, onSent });
    return attach({ open, ...stdio, client, vmName, detachKeys }, io, out);
  },
});

/** The agent sets SHELL from /etc/passwd, unless the image or the user says otherwise. */
const LOGIN = 'export LANG="${LANG:-C.UTF-8}"; exec "${SHELL:-/bin/sh}" -l';

/** Returns the shell's command. An empty one is the image's command. */
function shellCommand(
  tty: boolean,
  { noLogin, workdir: asked }: { readonly noLogin: boolean; readonly workdir: string | undefined },
): readonly string[] {
  if (!tty) return ["sh", "-l"];
  if (noLogin) return [];
  // A missing home directory must not prevent a shell.
  return ["/bin/sh", "-c", asked === undefined ? `cd 2>/dev/null; ${LOGIN}` : LOGIN];
}
