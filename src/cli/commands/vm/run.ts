import type { CreateVm, Exec } from "#api/wire.ts";
import { HearthError, toHearthError } from "#base/error.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import type { Hearth } from "#sdk/hearth.ts";
import { attach, capture } from "#cli/attach.ts";
import type { Attach } from "#cli/attach.ts";
import { command } from "#cli/command.ts";
import { DETACH_FLAG, parseDetachKeys } from "#cli/detach-keys.ts";
import { EXEC_FLAGS, execRequest, planStdio, readEnv } from "#cli/exec-flags.ts";
import { IMAGE_ARGUMENT } from "#cli/image-argument.ts";
import type { Out } from "#cli/output.ts";
import { readPolicyChoice } from "#cli/policy-choice.ts";
import { parseVmFlags, VM_FLAGS } from "#cli/vm-flags.ts";

const JSON_OUTPUT_MAX_BYTES = 16 * 1024 * 1024;

export default command({
  path: ["run"],
  summary: "Create a VM and run a command in it",
  about:
    "Without COMMAND, the command of the image runs; with -d, none runs. When the command ends, the VM is " +
    "stopped and kept, or removed with --rm. Everything after IMAGE belongs to the command, flags " +
    "included, so the flags of `run` come before IMAGE. Arguments are passed on unchanged and must be " +
    "UTF-8. The exit code is that of the command; 125 means that Hearth failed, 126 that the command is " +
    "not executable, 127 that it was not found, and 128+n that signal n ended it. Stdin is passed on if it " +
    "is a pipe or a file; a terminal is passed on only with -i or -t, or if no command is given. An image " +
    "that is not in the cache is built first. With --json, the output is captured and printed as { " +
    "exitCode, timedOut, stdout, stderr, vm }, and signal if one ended it; with -d and --json, the VM is " +
    "printed. The detach keys hang up the command, as closing its terminal window does; the VM is then " +
    "stopped or removed, too. The exit code is then 129. With -d, the VM keeps running if the command " +
    "cannot start, and its name is printed; with --rm it is removed. config.toml can change the defaults " +
    "of cpus, memory, disk, network and driver.",
  args: [IMAGE_ARGUMENT, { name: "COMMAND", many: true, optional: true, help: "Command and its arguments" }],
  flags: {
    rm: { help: "Remove the VM when the command ends, also on Ctrl-C" },
    ...EXEC_FLAGS,
    detach: { short: "d", help: "Run the VM in the background and print its name" },
    ...DETACH_FLAG,
    ...VM_FLAGS,
  },
  passThrough: true,
  exitsLikeGuest: true,
  examples: [
    ["hearth run --rm debian -- uname -a", "Run one command in a new VM"],
    ["hearth run --rm -it debian", "Open a shell in a new VM, and remove the VM after it"],
    ["hearth run -d --name web --memory 1G --network nat debian", "Run a VM in the background"],
    ["tar c . | hearth run --rm debian -- tar tv", "Pass a pipe on as stdin"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const [image = "", ...argv] = args;
    const vm: CreateVm = {
      ...parseVmFlags(image, flags),
      ...(flags.policy !== undefined && (await readPolicyChoice(flags.policy, io))),
      ...(flags.rm && { autoRemove: true }),
    };
    const env = readEnv(flags, io);
    const json = out.wantsJson;
    const stdio = planStdio(flags, io, { terminalByDefault: argv.length === 0, json });
    const exec = execRequest(argv, env, flags, stdio, io);
    const detachKeys = parseDetachKeys(flags.detachKeys);
    const client = await hearth();
    if (flags.detach) return detached(client, vm, exec, out);
    const { onProgress } = out;
    const open: Attach["open"] = (signal, onSent) => client.run({ vm, exec }, { onProgress, signal, onSent });
    if (json) return capture({ open, ...stdio, client }, io, out, JSON_OUTPUT_MAX_BYTES);
    return attach({ open, ...stdio, client, detachKeys }, io, out);
  },
});

/**
 * Boots the VM in one request, which leaves nothing behind if it fails, prints its name, and starts the command. If
 * that cannot start, the VM is kept for another try; with --rm it is deleted.
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
        const both = `${error.message} ${vm.name} is still running, because it could not be removed.`;
        throw new HearthError(error.code, both, { hint: `See: hearth show ${vm.name}`, cause });
      });
      throw error;
    }
    const hint = `${vm.name} is running without the command. Try again: hearth exec -d ${vm.name} -- COMMAND`;
    throw new HearthError(error.code, error.message, { hint, cause: error.cause });
  }
}
