import { resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { HearthError } from "#base/error.ts";
import { formatSizeRounded } from "#base/sizes.ts";
import { command } from "#cli/command.ts";
import type { Io } from "#cli/io.ts";
import type { Out } from "#cli/output.ts";
import { untilSignal } from "#cli/until-signal.ts";
import { checkPlace, writeWholeFile } from "#cli/whole-file.ts";
import { parseSnapshotName } from "#model/ids.ts";
import type { Hearth } from "#sdk/hearth.ts";

export default command({
  path: ["snapshot", "export"],
  summary: "Export a snapshot to a file",
  about:
    "The file contains the disk, and the memory if the snapshot has it, compressed. Memory can contain " +
    "secrets of the programs in the VM, such as passwords. The default file is NAME.tar.zst in the " +
    "current directory; `-` is stdout. The file appears when it is complete. It does not contain the " +
    "image, which the other host must have. Prints the file name.",
  args: [
    { name: "NAME", help: "Name or ID of the snapshot", completes: "snapshot" },
    { name: "FILE", optional: true, help: "File to write, or - (default: NAME.tar.zst)", completes: "path" },
  ],
  flags: { force: { short: "f", help: "Replace an existing file" } },
  examples: [
    [
      "hearth snapshot export before-upgrade",
      "On the other host: hearth snapshot import before-upgrade.tar.zst",
    ],
    [
      "hearth snapshot export before-upgrade - | ssh other hearth snapshot import -",
      "Copy a snapshot to another host",
    ],
  ],
  async run({ args, flags, io, out, hearth }) {
    const name = parseSnapshotName(args[0] ?? "");
    const shown = args[1] ?? `${name}.tar.zst`;
    if (shown === "-") {
      assertPiped(io, out);
      return await toStdout(name, await hearth(), io, out);
    }
    const file = { path: resolve(io.cwd, shown), replace: flags.force };
    await checkPlace(file);
    const client = await hearth();
    return untilSignal(io, async (signal) => {
      const report = reporter(out, name);
      const archive = await client.snapshots.export(name, { signal });
      const sizeBytes = await writeWholeFile(file, archive, report, signal);
      out.clearProgress();
      if (out.wantsJson) return out.json({ name, file: file.path, sizeBytes });
      out.line(shown);
      out.note(`${formatSizeRounded(sizeBytes)}. Next, on another host: hearth snapshot import ${shown}`);
    });
  },
});

function assertPiped(io: Io, out: Out): void {
  if (out.wantsJson)
    throw new HearthError(
      "input.invalid",
      "snapshot export: --json cannot be used when the archive goes to stdout.",
      {
        hint: "Leave out --json.",
      },
    );
  if (io.stdout.isTTY === true)
    throw new HearthError("input.invalid", "snapshot export: the archive is not written to a terminal.", {
      hint: "Name a file, or pipe the archive to a program.",
    });
}

/** hearthd reads the whole snapshot before it sends the first byte. */
function reporter(out: Out, name: string): (doneBytes: number) => void {
  const progress = { stage: "snapshot", text: `exporting ${name}` };
  out.onProgress?.(progress);
  return (doneBytes) => out.onProgress?.({ ...progress, doneBytes });
}

async function toStdout(name: string, { snapshots }: Hearth, io: Io, out: Out): Promise<void> {
  const report = reporter(out, name);
  const archive = await snapshots.export(name);
  async function* counted(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let bytes = 0;
    for await (const chunk of chunks) {
      yield chunk;
      report((bytes += chunk.byteLength));
    }
  }
  await pipeline(archive, counted, io.stdout, { end: false });
}
