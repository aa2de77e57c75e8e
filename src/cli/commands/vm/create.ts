import { command } from "#cli/command.ts";
import { EXEC_FLAGS, readEnv } from "#cli/exec-flags.ts";
import { parseVmFlags, VM_FLAGS } from "#cli/vm-flags.ts";

const { env, envFile, user, workdir } = EXEC_FLAGS;

export default command({
  path: ["create"],
  summary: "Make a VM and boot it",
  about:
    "As `run` without a command: prints the VM's name when commands can run in it. Variables, user and folder are " +
    "what its commands get unless they say otherwise.",
  args: [{ name: "IMAGE", help: "Such as debian or debian:trixie", completes: "image" }],
  flags: {
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
  ],
  async run({ args, flags, io, out, hearth }) {
    const [image = ""] = args;
    const variables = readEnv(flags, io);
    const spec = {
      ...parseVmFlags(image, flags),
      ...(Object.keys(variables).length > 0 && { env: { ...variables } }),
      ...(flags.user !== undefined && { user: flags.user }),
      ...(flags.workdir !== undefined && { workdir: flags.workdir }),
      ...(flags.rm && { autoRemove: true }),
    };
    const { onProgress } = out;
    const vm = await (await hearth()).vms.create(spec, { onProgress });
    if (!flags.noStart) await vm.start({ onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(await vm.show());
    out.line(vm.name);
    out.note(flags.noStart ? `Next: hearth start ${vm.name}` : `Next: hearth shell ${vm.name}`);
  },
});
