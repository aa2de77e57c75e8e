import type { Exec } from "#api/wire.ts";
import { parseDuration } from "#base/durations.ts";
import { parseVmName } from "#model/ids.ts";
import { attach, capture } from "#cli/attach.ts";
import type { Attach } from "#cli/attach.ts";
import { command } from "#cli/command.ts";
import { DETACH_FLAG, parseDetachKeys } from "#cli/detach-keys.ts";
import { EXEC_FLAGS, execRequest, OF_VM_FLAGS, planStdio, readEnv } from "#cli/exec-flags.ts";

const COMMAND_MAX_MS = 365 * 86_400_000;
const JSON_OUTPUT_MAX_BYTES = 16 * 1024 * 1024;

export default command({
  path: ["exec"],
  summary: "Run a command in a VM",
  about:
    "Arguments are passed on unchanged and must be UTF-8; no shell interprets them, unless COMMAND is one. " +
    "The exit code is that of the command; 125 means that Hearth failed, 126 that the command is not " +
    "executable, 127 that it was not found, 128+n that signal n ended it, and 124 that --timeout expired. " +
    "Stdin is passed on if it is a pipe or a file; a terminal is passed on only with -i or -t. In a shell " +
    "loop that reads a file, add `</dev/null`, or `exec` reads the rest of the file. Signals are passed on " +
    "to the command. `exec` stops waiting for the command if the VM does not answer after a signal, and at " +
    "the third SIGINT or SIGTERM. At a terminal, the detach keys hang up the command, as closing its " +
    "terminal window does. The exit code is then 129. With --json, the output is captured and printed as { " +
    "exitCode, timedOut, stdout, stderr }, and signal if one ended it. A suspended VM is resumed first.",
  args: [
    { name: "VM", help: "Name or ID of the VM", completes: "vm" },
    {
      name: "COMMAND",
      many: true,
      help: "Command and its arguments",
      missingHint: ([vm]) => `Write \`hearth exec ${vm} -- COMMAND\`, or \`hearth shell ${vm}\`.`,
    },
  ],
  flags: {
    ...EXEC_FLAGS,
    ...OF_VM_FLAGS,
    ...DETACH_FLAG,
    timeout: {
      value: "TIME",
      default: "none",
      help: "End the command after this time, such as 90s, and exit with 124",
    },
  },
  passThrough: true,
  exitsLikeGuest: true,
  examples: [
    ["hearth exec web -- uname -a", "Run one command"],
    ["hearth exec -it web -- bash", "Open a shell with a terminal"],
    ["echo hi | hearth exec web -- cat", "Pass a pipe on as stdin"],
    ["hearth exec -d -u www-data web -- /srv/worker", "Run a command in the background, as another user"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const [name = "", ...argv] = args;
    const vmName = parseVmName(name);
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
    const open: Attach["open"] = (signal, onSent) => vm.spawn(argv, { ...exec, signal, onSent });
    const attachment = { open, ...stdio, client, vmName, detachKeys, timeoutMs: exec.timeoutMs };
    if (out.wantsJson) return capture(attachment, io, out, JSON_OUTPUT_MAX_BYTES);
    return attach(attachment, io, out);
  },
});
