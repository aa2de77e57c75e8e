import type { CreateVm } from "#api/wire.ts";
import { failAfter } from "#base/clean-up.ts";
import { HearthError, toHearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import { command } from "#cli/command.ts";
import type { FlagValues } from "#cli/command.ts";
import { EXEC_FLAGS, readEnv } from "#cli/exec-flags.ts";
import { IMAGE_ARGUMENT } from "#cli/image-argument.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import { readPolicyChoice } from "#cli/policy-choice.ts";
import { parseFromSnapshot, parseVmFlags, VM_FLAGS } from "#cli/vm-flags.ts";

const { env, envFile, user, workdir } = EXEC_FLAGS;

export default command({
  path: ["create"],
  summary: "Create a VM and start it",
  about:
    "Prints the name of the VM when commands can run in it. No command is run. --env, --user and --workdir " +
    "are the defaults for the commands that will run in the VM. With --snapshot instead of IMAGE, the VM " +
    "gets the disk, the sizes and the devices of the snapshot, and continues from its memory if it has " +
    "one; with --cold it boots from the disk. config.toml can change the defaults of cpus, memory, disk, " +
    "network and driver.",
  args: [{ ...IMAGE_ARGUMENT, optional: true }],
  flags: {
    snapshot: { value: "NAME", help: "Start from this snapshot instead of an image", completes: "snapshot" },
    noStart: { help: "Only create the VM, do not start it" },
    rm: { help: "Remove the VM when it stops" },
    ...VM_FLAGS,
    env,
    envFile,
    user,
    workdir,
  },
  examples: [
    [
      "hearth create --name web --cpus 4 --memory 4G debian",
      "Create and start a VM with 4 CPUs and 4 GiB of memory",
    ],
    ["hearth create --no-start --disk 32G debian:trixie", "Create a VM and do not start it"],
    ["hearth create --snapshot before-upgrade --name web-2", "Create a VM from a snapshot"],
    ["hearth create --idle-timeout 10m debian", "Suspend the VM when idle; the next command resumes it"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const variables = readEnv(flags, io);
    const spec = {
      ...parseOrigin(args[0], flags.snapshot, flags),
      ...(flags.policy !== undefined && (await readPolicyChoice(flags.policy, io))),
      ...(Object.keys(variables).length > 0 && { env: { ...variables } }),
      ...(flags.user !== undefined && { user: flags.user }),
      ...(flags.workdir !== undefined && { workdir: flags.workdir }),
      ...(flags.rm && { autoRemove: true }),
    };
    const { onProgress } = out;
    const vm = await (await hearth()).vms.create(spec, { onProgress });
    if (!flags.noStart) await start(vm, flags.rm, onProgress);
    out.clearProgress();
    if (out.wantsJson) return out.json(await vm.show());
    out.line(vm.name);
    out.note(flags.noStart ? `Next: hearth start ${vm.name}` : `Next: hearth shell ${vm.name}`);
  },
});

/**
 * Boots the VM. If it does not boot, it is kept for another try and named, because hearthd may have generated its name.
 */
async function start(vm: HearthVm, isRemoved: boolean, onProgress: OnProgress | undefined): Promise<void> {
  try {
    await vm.start({ onProgress });
  } catch (thrown) {
    if (isRemoved) return failAfter(thrown, () => vm.remove({ force: true }));
    const { code, message, hint, cause } = toHearthError(thrown);
    const kept = `${vm.name} is kept. Try again: hearth start ${vm.name}. Or remove it: hearth rm ${vm.name}`;
    throw new HearthError(code, message, { hint: hint === undefined ? kept : `${hint} ${kept}`, cause });
  }
}

/** Parses the start source: one image, or one snapshot. */
function parseOrigin(
  image: string | undefined,
  snapshot: string | undefined,
  flags: FlagValues<typeof VM_FLAGS>,
): CreateVm {
  if (image !== undefined && snapshot === undefined) return parseVmFlags(image, flags);
  if (image === undefined && snapshot !== undefined) return parseFromSnapshot(snapshot, flags);
  if (image === undefined)
    throw new HearthError("input.invalid", "create: IMAGE is missing.", {
      hint: "Write `hearth create debian`, or `hearth create --snapshot NAME`.",
    });
  throw new HearthError("input.invalid", "create: IMAGE and --snapshot cannot be given together.", {
    hint: "Leave out IMAGE: the snapshot has one already.",
  });
}
