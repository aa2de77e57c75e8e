import type { CreateVm, Exec } from "#api/wire.ts";
import { HearthError, toHearthError } from "#base/error.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import type { Hearth } from "#sdk/hearth.ts";
import { attach, capture } from "#cli/attach.ts";
import { command } from "#cli/command.ts";
import { DETACH_FLAG, parseDetachKeys } from "#cli/detach-keys.ts";
import { EXEC_FLAGS, execRequest, planStdio, readEnv } from "#cli/exec-flags.ts";
import type { Out } from "#cli/output.ts";
import { parseVmFlags, VM_FLAGS } from "#cli/vm-flags.ts";

const JSON_OUTPUT_MAX_BYTES = 16 * 1024 * 1024;

export default command({
  path: ["run"],
  summary: "Make a VM, boot it and run a command in it",
  about:
    "Without a command, the image's own runs, or a shell when you are at a terminal. Everything after the image " +
    "belongs to the command, flags included; the arguments arrive as they are, and have to be UTF-8. Flags of `run` stand before the image. " +
    "The exit code is the command's own; 125 says that Hearth failed, 126 that the command is not executable, 127 " +
    "that it was not found, 128+n that signal n ended it. A stdin that is a pipe or a file is passed on; a " +
    "terminal's only with -i or -t, or when no command is given. An image that is not there yet is built first. " +
    "With --json the output is captured and printed as { exitCode, stdout, stderr, vm }; with -d and --json the VM. " +
    "The detach keys end the command as a closed window does, and then the VM as at the command's end. " +
    "A VM whose command cannot start under -d is kept running, with its name printed; with --rm it is removed.",
  args: [
    { name: "IMAGE", help: "Such as debian or debian:trixie", completes: "image" },
    { name: "COMMAND", many: true, optional: true, help: "The command and its arguments" },
  ],
  flags: {
    rm: { help: "Remove the VM when the command ends, also on Ctrl-C" },
    ...EXEC_FLAGS,
    detach: { short: "d", help: "Leave the VM running, print its name and come back" },
    ...DETACH_FLAG,
    ...VM_FLAGS,
  },
  passThrough: true,
  exitsLikeGuest: true,
  examples: [
    ["hearth run --rm debian -- uname -a", "One command in a fresh VM"],
    ["hearth run --rm -it debian", "A shell; the VM goes away with it"],
    ["hearth run -d --name web --memory 1G --network user debian", "A VM that stays"],
    ["tar c . | hearth run --rm debian -- tar tv", "stdin comes from the pipe"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const [image = "", ...argv] = args;
    const vm: CreateVm = { ...parseVmFlags(image, flags), ...(flags.rm && { autoRemove: true }) };
    const env = readEnv(flags, io);
    const json = out.wantsJson;
    const stdio = planStdio(flags, io, { terminalByDefault: argv.length === 0, json });
    const exec = execRequest(argv, env, flags, stdio, io);
    const detachKeys = parseDetachKeys(flags.detachKeys);
    const client = await hearth();
    if (flags.detach) return detached(client, vm, exec, out);
    const open = (signal: AbortSignal) => client.run({ vm, exec }, { onProgress: out.onProgress, signal });
    if (json) return capture({ open, ...stdio, client }, io, out, JSON_OUTPUT_MAX_BYTES);
    return attach({ open, ...stdio, client, detachKeys }, io, out);
  },
});

/**
 * Boots the VM in one request, so that nothing is left of one that fails, prints its name, and starts the command. If that
 * cannot start, the VM is kept for the next try, like one whose command failed; with --rm it is removed.
 */
async function detached(client: Hearth, spec: CreateVm, exec: Exec, out: Out): Promise<number> {
  const { env, user, workdir } = exec;
  const boot = { vm: { ...spec, env, user, workdir }, exec: { argv: [], detach: true } };
  const booted = await client.run(boot, { onProgress: out.onProgress });
  await booted.exited;
  const vm = client.vm(booted.vm?.name ?? spec.name ?? "");
  out.clearProgress();
  if (!out.wantsJson && spec.autoRemove !== true) out.line(vm.name);
  if (exec.argv.length > 0) await startCommand(vm, exec, spec.autoRemove === true);
  if (out.wantsJson) out.json(await vm.show());
  else if (spec.autoRemove === true) out.line(vm.name);
  return 0;
}

async function startCommand(vm: HearthVm, exec: Exec, isRemoved: boolean): Promise<void> {
  try {
    (await vm.spawn(exec.argv, exec)).close();
  } catch (thrown) {
    const error = toHearthError(thrown);
    if (isRemoved) {
      await vm.remove({ force: true }).catch((cause: unknown) => {
        const both = `${error.message} ${vm.name} runs on, because it cannot be removed`;
        throw new HearthError(error.code, both, { hint: `Look at it: hearth show ${vm.name}`, cause });
      });
      throw error;
    }
    const hint = `${vm.name} runs without it. Try again: hearth exec -d ${vm.name} -- COMMAND`;
    throw new HearthError(error.code, error.message, { hint, cause: error.cause });
  }
}
