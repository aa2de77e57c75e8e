import type { Exec } from "#api/wire.ts";
import { parseDuration } from "#base/durations.ts";
import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { attach, capture } from "#cli/attach.ts";
import { command } from "#cli/command.ts";
import { DETACH_FLAG, parseDetachKeys } from "#cli/detach-keys.ts";
import { EXEC_FLAGS, execRequest, planStdio, readEnv } from "#cli/exec-flags.ts";

const COMMAND_MAX_MS = 365 * 86_400_000;
const JSON_OUTPUT_MAX_BYTES = 16 * 1024 * 1024;

export default command({
  path: ["exec"],
  summary: "Run a command in a VM",
  about:
    "The arguments arrive as they are, and have to be UTF-8: no shell reads them, unless you name one. The exit code is the command's own; " +
    "125 says that Hearth failed, 126 that the command is not executable, 127 that it was not found, 128+n that " +
    "signal n ended it, 124 that its time was up. A stdin that is a pipe or a file is passed on; a terminal's only " +
    "with -i or -t. In a shell loop that reads a file, give `</dev/null`. Signals go to the command; if its VM does " +
    "not answer, and at the third SIGINT or SIGTERM, the command is not waited for any longer. At a terminal, the " +
    "detach keys end the command as a closed window does. With --json the output is captured and " +
    "printed as { exitCode, stdout, stderr }.",
  args: [
    { name: "VM", help: "Name or id", completes: "vm" },
    { name: "COMMAND", many: true, optional: true, help: "The command and its arguments" },
  ],
  flags: {
    ...EXEC_FLAGS,
    ...DETACH_FLAG,
    timeout: { value: "TIME", help: "End the command after this time, such as 90s; exits with 124" },
  },
  passThrough: true,
  exitsLikeGuest: true,
  examples: [
    ["hearth exec web -- uname -a", "One command"],
    ["hearth exec -it web -- bash", "A shell with a terminal"],
    ["echo hi | hearth exec web -- cat", "stdin comes from the pipe"],
    ["hearth exec -d -u www-data web -- /srv/worker", "In the background, as another user"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const [name = "", ...argv] = args;
    const vmName = parseVmName(name);
    if (argv.length === 0) {
      throw new HearthError("input.invalid", "exec: COMMAND is missing.", {
        hint: `Write \`hearth exec ${vmName} -- COMMAND\`, or \`hearth shell ${vmName}\`.`,
      });
    }
    const range = { minMs: 1, maxMs: COMMAND_MAX_MS };
    const stdio = planStdio(flags, io, { terminalByDefault: false, json: out.wantsJson });
    const exec: Exec = {
      ...execRequest(argv, readEnv(flags, io), flags, stdio, io),
      ...(flags.timeout !== undefined && { timeoutMs: parseDuration("timeout", flags.timeout, range) }),
    };
    const detachKeys = parseDetachKeys(flags.detachKeys);
    const client = await hearth();
    const vm = client.vm(vmName);
    if (flags.detach) {
      const started = await vm.spawn(argv, exec);
      if (out.wantsJson) out.json({ pid: started.pid });
      else out.line(String(started.pid));
      started.close();
      return 0;
    }
    const open = (signal: AbortSignal) => vm.spawn(argv, { ...exec, signal });
    const attachment = { open, ...stdio, client, vmName, detachKeys, timeoutMs: exec.timeoutMs };
    if (out.wantsJson) return capture(attachment, io, out, JSON_OUTPUT_MAX_BYTES);
    return attach(attachment, io, out);
  },
});
