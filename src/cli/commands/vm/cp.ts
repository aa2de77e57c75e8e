import { Readable } from "node:stream";
import { HearthError } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { parseCopy } from "#cli/copy-paths.ts";
import { printStream } from "#cli/print-stream.ts";
import { untilSignal } from "#cli/until-signal.ts";

export default command({
  path: ["cp"],
  summary: "Copy files between the host and a VM",
  about:
    "VM:PATH is a path in the VM; write a host file whose name has a colon as ./NAME. From a VM, only one " +
    "source can be copied. Files and directories keep their modes, times and links. A directory is copied " +
    "into the destination if that exists, else to that name; `DIR/.` means the content of DIR. A symbolic " +
    "link is copied as a link; `LINK/` means the directory that it points to, and a destination that is a " +
    "link is followed. A file is replaced in one step, when the new one is complete; directories, devices, " +
    "FIFOs and sockets are never replaced. Files that cannot be copied, such as a FIFO, are reported and " +
    "skipped, and the exit code is then 1. Extended attributes are not copied. `-` is a tar stream on " +
    "stdin or stdout; a stream with a device or a FIFO is refused on its way into a VM.",
  args: [
    { name: "SOURCE", many: true, help: "Paths to copy, VM:PATH, or -", completes: "path" },
    { name: "DESTINATION", help: "Path, VM:PATH, or -", completes: "path" },
  ],
  flags: { parents: { short: "p", help: "Create the destination directory in the VM" } },
  examples: [
    ["hearth cp notes.txt web:/root/", "Copy a file into the VM"],
    ["hearth cp web:/var/log ./logs", "Copy a directory out of the VM"],
    ["tar c src | hearth cp - web:/srv", "Extract a tar stream in /srv of the VM"],
    ["hearth cp web:/etc - | tar t", "Write a directory of the VM as a tar stream"],
  ],
  async run({ args, flags, io, out, hearth }) {
    const copy = parseCopy(args);
    const vm = (await hearth()).vm(copy.vm);
    const onSkip = (what: string): void => out.note(`not copied: ${what}`);
    const options = { parents: flags.parents, cwd: io.cwd, onSkip };
    if (copy.way === "out" && copy.hostPath === "-" && out.wantsJson) {
      const hint = "Leave out --json.";
      throw new HearthError(
        "input.invalid",
        "cp: --json cannot be used when the tar stream goes to stdout.",
        { hint },
      );
    }
    return untilSignal(io, async (signal) => {
      if (copy.way === "in") {
        if (copy.hostPaths[0] === "-") await vm.writeTar(copy.guestPath, io.stdin, options, signal);
        else await vm.copyIn(copy.hostPaths, copy.guestPath, options, signal);
      } else if (copy.hostPath === "-") {
        const { noticingSkipped } = await import("#sdk/tar-skipped.ts");
        const { SkippedFiles } = await import("#sdk/skipped-files.ts");
        const skipped = new SkippedFiles(onSkip);
        const tar = noticingSkipped(await vm.readTar(copy.guestPath, signal), skipped, signal);
        await printStream(io, Readable.from(tar, { objectMode: false }), signal);
        return skipped.throwIfAny();
      } else await vm.copyOut(copy.guestPath, copy.hostPath, options, signal);
      if (out.wantsJson) out.json(copy);
    });
  },
});
