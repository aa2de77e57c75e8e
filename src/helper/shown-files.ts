/**
 * Opens the files that a VMM or a tool sees, if hearthd has fewer rights than the port:
 *
 *   path ─▶ opened without reading it (O_PATH) ─▶ found by a process with hearthd's rights, which may read it
 *        ─▶ the open file is mounted, even if the path leads elsewhere by now
 *
 * Without the check, a mount would also show a file that everybody may read below a directory that hearthd may not
 * enter. The sandbox's programs run as root before they drop their rights, so nothing may be mounted over them, or
 * behind a link that a program with fewer rights has made.
 */
import { closeSync, constants, fstatSync, openSync, readlinkSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { HearthError } from "#base/error.ts";
import { O_PATH } from "#host/open-flags.ts";
import type { Ids } from "#helper/own-files.ts";
import { findProgram } from "#host/find-program.ts";
import { missingTool, run } from "#host/run.ts";
import { pathInside } from "#host/sandbox-root.ts";
import type { SandboxFile } from "#host/sandbox-root.ts";

/** The devices that a VMM may use. Making a TAP device takes rights that no VMM has: it opens the one that is its own. */
const DEVICES = new Set(["/dev/kvm", "/dev/net/tun"]);
/** Directories that each sandbox has from the host, or makes itself. */
const SYSTEM = [
  "/usr",
  "/lib",
  "/lib64",
  "/lib32",
  "/libx32",
  "/bin",
  "/sbin",
  "/etc",
  "/dev",
  "/proc",
  "/sys",
];
const FIND_TIMEOUT_MS = 30_000;

/** Open files for a sandbox to mount. Dispose of them, which closes them, after the sandbox was started. */
export class ShownFiles implements Disposable {
  /** The files, each with an open file except for devices. */
  readonly files: readonly SandboxFile[];
  readonly #opened: number[];

  private constructor(files: readonly SandboxFile[], opened: number[]) {
    this.files = files;
    this.#opened = opened;
  }

  /**
   * Opens and checks the files.
   * @param owner hearthd's user; undefined if the port has the same rights, and paths are not checked
   * @throws HearthError `path.unmanaged` for a file that hearthd may not read, or may not write if it is mounted
   * writable; `input.invalid` for an invalid path in the sandbox
   */
  static async open(
    files: readonly SandboxFile[],
    owner: Ids | undefined,
    signal: AbortSignal,
  ): Promise<ShownFiles> {
    if (owner === undefined) return new ShownFiles(files, []);
    const opened: number[] = [];
    try {
      const shown = files.map((file) => (file.access === "device" ? checkDevice(file) : pin(file, opened)));
      const kept = withoutNested(shown);
      for (const access of ["read", "write"] as const)
        await checkRights(
          kept.filter((file) => file.access === access),
          access,
          owner,
          signal,
        );
      return new ShownFiles(kept, opened);
    } catch (error) {
      close(opened);
      throw error;
    }
  }

  [Symbol.dispose](): void {
    close(this.#opened);
  }
}

function close(opened: number[]): void {
  for (const fd of opened.splice(0)) closeSync(fd);
}

function checkDevice(file: SandboxFile): SandboxFile {
  if (DEVICES.has(file.path) && pathInside(file) === file.path) return file;
  throw new HearthError("input.invalid", `Cannot show ${JSON.stringify(file.path)} as a device.`);
}

function pin(file: SandboxFile, opened: number[]): SandboxFile {
  const inside = pathInside(file);
  const odd = [file.path, inside].find((path) => !isAbsolute(path) || join(path) !== path);
  if (odd !== undefined)
    throw new HearthError(
      "input.invalid",
      `Cannot show ${JSON.stringify(odd)}: the path has empty parts, . or ..`,
    );
  const fd = openSync(file.path, O_PATH | constants.O_NOFOLLOW);
  opened.push(fd);
  const stats = fstatSync(fd);
  if (!stats.isFile() && !stats.isDirectory())
    throw refusal(file.path, "it is neither a file nor a directory");
  // Files of the sandbox's system directories may only be mounted at their own place.
  const isSystem = SYSTEM.some((path) => isIn(inside, path) || isIn(path, inside));
  if (isSystem && readlinkSync(`/proc/self/fd/${fd}`) !== inside)
    throw refusal(file.path, `${inside} belongs to the sandbox`);
  return { ...file, fd };
}

/**
 * Leaves out files in directories that are mounted anyway. No other file may be in a mounted directory: a link in it
 * could lead the mount over a program of the sandbox.
 */
function withoutNested(files: readonly SandboxFile[]): SandboxFile[] {
  return files.filter((file) => {
    const inside = pathInside(file);
    const around = files.find(
      (other) => other !== file && isIn(inside, pathInside(other)) && pathInside(other) !== inside,
    );
    if (around === undefined) return true;
    const isSame = pathInside(around) === around.path && inside === file.path;
    if (isSame && around.access !== "device" && (file.access === "read" || around.access === "write"))
      return false;
    throw refusal(file.path, `${inside} lies in ${pathInside(around)}, which is shown as well`);
  });
}

/** Tells whether a path is `other`, or is below it. */
function isIn(path: string, other: string): boolean {
  return path === other || path.startsWith(other === "/" ? other : `${other}/`);
}

/**
 * Returns the command that has this user's rights to files, and executes the arguments that follow. It keeps one
 * capability, which is of no use for files: a process of the user, which has none, can then neither trace it nor write
 * to its memory.
 */
export function asUntraceable(setpriv: string, { uid, gid }: Ids): string[] {
  const caps = ["--inh-caps", "--ambient-caps", "--bounding-set"].map((name) => `${name}=-all,+setpcap`);
  const ids = ["--reuid", String(uid), "--regid", String(gid), "--clear-groups"];
  return [setpriv, ...ids, "--no-new-privs", ...caps, "--"];
}

/** Has a process of hearthd's user find the files. It reports those that the user may access, by device and inode. */
async function checkRights(
  files: readonly SandboxFile[],
  access: "read" | "write",
  owner: Ids,
  signal: AbortSignal,
): Promise<void> {
  if (files.length === 0) return;
  const setpriv = findProgram("setpriv");
  if (setpriv === undefined) throw missingTool("setpriv");
  const test = access === "read" ? ["-readable"] : ["-readable", "-writable"];
  const found = ["-maxdepth", "0", ...test, "-printf", "%D %i\\0"];
  const [program = "", ...args] = [
    ...asUntraceable(setpriv, owner),
    "find",
    "-P",
    ...files.map(({ path }) => path),
    ...found,
  ];
  // `find` fails for missing files; only its output matters.
  const result = await run(program, args, { timeoutMs: FIND_TIMEOUT_MS, signal });
  signal.throwIfAborted();
  const seen = new Set(result.stdout.split("\0"));
  for (const { path, fd } of files) {
    if (fd === undefined) continue;
    const { dev, ino } = fstatSync(fd, { bigint: true });
    if (!seen.has(`${dev} ${ino}`)) throw refusal(path, `the user of hearthd has no ${access} permission`);
  }
}

function refusal(path: string, reason: string): HearthError {
  return new HearthError(
    "path.unmanaged",
    `Cannot show ${JSON.stringify(path)} to a VMM or a tool: ${reason}.`,
    {
      hint: "The user of hearthd needs access to the files of its VMs: check the owner and the mode of the file and of the directories above it.",
    },
  );
}
