import { open } from "node:fs/promises";
import { resolve } from "node:path";
import type { Readable } from "node:stream";
import { HearthError } from "#base/error.ts";
import { command } from "#cli/command.ts";
import { printCreatedSnapshot } from "#cli/print-created-snapshot.ts";
import type { Io } from "#cli/io.ts";
import { parseSnapshotName } from "#model/ids.ts";

export default command({
  path: ["snapshot", "import"],
  summary: "Import a snapshot from a file",
  about:
    "Reads a file written by `hearth snapshot export`; `-` is stdin. The file is verified completely, and " +
    "nothing of a damaged file is kept. The image of the snapshot must be in the cache. Memory can be " +
    "restored only on a host with the same CPU, microcode, VMM version and Hearth version; elsewhere, " +
    "`hearth create --snapshot` fails, and --cold boots from the disk. Import only files from people whose " +
    "VMs you would run. Prints the name of the snapshot.",
  args: [{ name: "FILE", help: "File to read, or -", completes: "path" }],
  flags: { name: { value: "NAME", default: "name in the file", help: "Name of the snapshot" } },
  examples: [
    ["hearth snapshot import before-upgrade.tar.zst", "Then: hearth create --snapshot before-upgrade"],
    [
      "curl -s https://example.org/ci.tar.zst | hearth snapshot import - --name ci",
      "Import from a stream, with another name",
    ],
  ],
  async run({ args, flags, io, out, hearth }) {
    const [shown = ""] = args;
    const name = flags.name === undefined ? undefined : parseSnapshotName(flags.name);
    const archive = shown === "-" ? pipedStdin(io) : await openFile(resolve(io.cwd, shown), shown);
    const made = await (await hearth()).snapshots.import(archive, { name, onProgress: out.onProgress });
    printCreatedSnapshot(out, made);
  },
});

function pipedStdin(io: Io): Readable {
  if (!io.stdinIsTerminal) return io.stdin;
  throw new HearthError("input.invalid", "snapshot import: the archive is not read from a terminal.", {
    hint: "Name a file, or pipe the archive to stdin.",
  });
}

async function openFile(path: string, shown: string): Promise<Readable> {
  try {
    const file = await open(path);
    if (!(await file.stat()).isDirectory()) return file.createReadStream();
    await file.close();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR")
      throw new HearthError("file.not_found", `There is no ${shown} on this host.`, {
        hint: "Name a file that `hearth snapshot export` has written.",
      });
    if (code !== "EACCES") throw error;
    throw new HearthError("file.refused", `Cannot read ${shown}: permission denied.`, {
      hint: "Use the account of its owner, or pipe the file to stdin.",
    });
  }
  throw new HearthError("file.refused", `${shown} is a directory.`, { hint: "Name a file in it." });
}
