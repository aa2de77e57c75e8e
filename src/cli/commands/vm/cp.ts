import { HearthError } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { parseCopy } from "#cli/copy-paths.ts";

export default command({
  path: ["cp"],
  summary: "Copy files between the host and a VM",
  about:
    "Files and folders keep their modes, times and links. A folder goes into a destination that is there, and becomes " +
    "one that is not; `FOLDER/.` means what is in it. `-` is a tar stream on stdin or stdout. A path of the VM is " +
    "VM:PATH; a file of the host whose name has a colon is written ./NAME.",
  args: [{ name: "PATH", many: true, help: "Sources, then the destination", completes: "path" }],
  flags: { parents: { short: "p", help: "Make the destination folder in the VM" } },
  examples: [
    ["hearth cp notes.txt web:/root/", "Into the VM"],
    ["hearth cp web:/var/log ./logs", "A folder out of it"],
    ["tar c src | hearth cp - web:/srv", "A tar stream, unpacked in /srv"],
    ["hearth cp web:/etc - | tar t", "And one out"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const copy = parseCopy(args);
    const vm = (await hearth()).vm(copy.vm);
    if (copy.way === "in") {
      if (copy.hostPaths[0] === "-") await vm.writeTar(copy.guestPath, io.stdin, { parents: flags.parents });
      else await vm.copyIn(copy.hostPaths, copy.guestPath, { parents: flags.parents, cwd: io.cwd });
    } else if (copy.hostPath === "-") {
      if (out.wantsJson) {
        const hint = "Leave out --json.";
        throw new HearthError("input.invalid", "cp: stdout is the tar stream's.", { hint });
      }
      const tar = await vm.readTar(copy.guestPath);
      for await (const chunk of tar as AsyncIterable<Buffer>) {
        if (!io.stdout.write(chunk)) await new Promise((resolve) => io.stdout.once("drain", resolve));
      }
      return;
    } else await vm.copyOut(copy.guestPath, copy.hostPath, { cwd: io.cwd });
    if (out.wantsJson) out.json(copy);
  },
});
