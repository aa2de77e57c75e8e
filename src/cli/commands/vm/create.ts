import type { CreateVm } from "#api/wire.ts";
import { failAfter } from "#base/clean-up.ts";
import { HearthError, toHearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import { command } from "#cli/command.ts";
import type { FlagValues } from "#cli/command.ts";
import { EXEC_FLAGS, readEnv } from "#cli/exec-flags.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import { parseFromSnapshot, parseVmFlags, VM_FLAGS } from "#cli/vm-flags.ts";

const { env, envFile, user, workdir } = EXEC_FLAGS;

export default command({
  path: ["create"],
  summary: "Make a VM and boot it",
  about:
    "As `run` without a command: prints the VM's name when commands can run in it. Variables, user and folder are " +
    "what its commands get unless they say otherwise. With --snapshot instead of an image, the VM begins as what was " +
    "saved, in memory too if that was saved and --cold is not given; its sizes and devices are the snapshot's then.",
  args: [{ name: "IMAGE", optional: true, help: "Such as debian or debian:trixie", completes: "image" }],
  flags: {
    snapshot: { value: "NAME", help: "Begin as this snapshot, not as an image", completes: "snapshot" },
    noStart: { help: "Do not boot it" },
    rm: { help: "Remove the VM as soon as it does not run any more" },
    ...VM_FLAGS,
    env,
    envFile,
    user,
    workdir,
  },
  examples: [
    ["hearth create --name web --cpus 4 --memory 4G debian", "A bigger one"],
    ["hearth create --no-start --disk 32G debian:trixie", "Made, not booted"],
    ["hearth create --snapshot before-upgrade --name web-2", "Goes on where another one was saved"],
    ["hearth create --idle-timeout 10m debian", "Suspended when idle; the next command wakes it"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const variables = readEnv(flags, io);
    const spec = {
      ...parseOrigin(args[0], flags.snapshot, flags),
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

/** Boots the VM. If it does not boot, it is kept for another try and named, because hearthd may have made up its name. */
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

/** What it begins as: one image, or one snapshot. */
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
  throw new HearthError("input.invalid", "create: an image and a snapshot are given; a VM begins as one.", {
    hint: "Leave one out: the snapshot has an image already.",
  });
}
