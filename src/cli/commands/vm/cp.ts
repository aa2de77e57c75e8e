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
    "Files and directories keep their modes, times and links. A directory goes into a destination that exists, and " +
    "becomes one that does not; `DIR/.` means what is in it. A link is copied as a link; `LINK/` means the directory " +
    "that it leads to, and a destination that is a link is followed. A file takes the place of an old one when it is " +
    "whole; directories, devices, FIFOs and sockets are never replaced. What cannot be copied, such as a FIFO, is " +
    "named, and all else is copied; the exit code is 1 then. Extended attributes are not copied. `-` is a tar stream " +
    "on stdin or stdout; one that has a device or a FIFO in it is refused where it goes into a VM. A path of the VM " +
    "is VM:PATH; a file of the host whose name has a colon is written ./NAME.",
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
    const onSkip = (what: string): void => out.note(`not copied: ${what}`);
    const options = { parents: flags.parents, cwd: io.cwd, onSkip };
    if (copy.way === "out" && copy.hostPath === "-" && out.wantsJson) {
      const hint = "Leave out --json.";
      throw new HearthError("input.invalid", "cp: stdout is the tar stream's.", { hint });
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
