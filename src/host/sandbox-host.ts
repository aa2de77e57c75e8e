/** Finds the parts of this host's sandboxes, and whether it can make one at all. Done once per hearthd. */
import { lstatSync, readlinkSync } from "node:fs";
import { HearthError } from "#base/error.ts";
import { findProgram } from "#host/find-program.ts";
import { missingTool, run } from "#host/run.ts";

const TOP_DIRS = ["/lib", "/lib64", "/lib32", "/libx32", "/bin", "/sbin"];
/** Making a jail takes 5 ms on an idle machine. */
const TRY_TIMEOUT_MS = 20_000;

/** The programs and directories of the host that every sandbox uses. */
export type SandboxHost = {
  readonly bwrap: string;
  readonly setpriv: string;
  readonly prlimit: string;
  /** Absolute links such as /lib with their targets, such as usr/lib. */
  readonly links: readonly (readonly [path: string, target: string])[];
  /** Directories with programs and libraries: /usr, and /lib if it is not a link. */
  readonly systemDirs: readonly string[];
  readonly isRoot: boolean;
};

/**
 * The caller's part of the error messages: what it isolates, and how a user can do without the sandbox, if possible.
 */
export type SandboxUse = { readonly subject: string; readonly otherwise?: string | undefined };

/** The reason why there is no sandbox: a missing program, or bwrap's error. */
type Refusal = { readonly missing: string } | { readonly said: string; readonly isRoot: boolean };

let known: Promise<SandboxHost | Refusal> | undefined;

/**
 * Finds out once whether this host can make sandboxes.
 * @throws HearthError `host.tool_missing` without bubblewrap or util-linux, `feature.missing` if the kernel lets
 * hearthd make no namespaces; both say what to install or to allow
 */
export async function findSandboxHost(use: SandboxUse, signal: AbortSignal): Promise<SandboxHost> {
  // Uses a separate signal, because other callers wait for the same answer.
  known ??= trySandbox(new AbortController().signal);
  const found = await known;
  signal.throwIfAborted();
  if ("bwrap" in found) return found;
  known = undefined; // Not kept: the host may be repaired later.
  throw "missing" in found ? notInstalled(found.missing, use) : refused(found, use);
}

async function trySandbox(signal: AbortSignal): Promise<SandboxHost | Refusal> {
  const programs = {
    bwrap: findProgram("bwrap"),
    setpriv: findProgram("setpriv"),
    prlimit: findProgram("prlimit"),
  };
  for (const [name, path] of Object.entries(programs)) if (path === undefined) return { missing: name };
  const { bwrap = "", setpriv = "", prlimit = "" } = programs;
  const host: SandboxHost = { bwrap, setpriv, prlimit, ...readSystem(), isRoot: process.geteuid?.() === 0 };
  const tried = await run(bwrap, probeArguments(host), { timeoutMs: TRY_TIMEOUT_MS, signal });
  return tried.ok ? host : { said: tried.stderr, isRoot: host.isRoot };
}

/** Returns arguments for all kinds of namespaces that a jail uses, around a program that does nothing. */
function probeArguments(host: SandboxHost): string[] {
  return [
    ["--unshare-ipc", "--unshare-uts", "--unshare-cgroup", "--unshare-pid", "--unshare-net", "--as-pid-1"],
    ["--clearenv", "--new-session", "--cap-drop", "ALL"],
    host.systemDirs.flatMap((path) => ["--ro-bind", path, path]),
    host.links.flatMap(([path, target]) => ["--symlink", target, path]),
    [
      "--dev",
      "/dev",
      "--perms",
      "0755",
      "--dir",
      "/run",
      "--remount-ro",
      "/",
      "--",
      host.prlimit,
      "--version",
    ],
  ].flat();
}

function notInstalled(name: string, { subject, otherwise }: SandboxUse): HearthError {
  const install = missingTool(name).hint?.replace(/\.$/, "") ?? "";
  const sentence = `${subject} are isolated with \`${name}\`, which is not installed.`;
  return new HearthError("host.tool_missing", sentence, { hint: `${install}${or(otherwise)}.` });
}

function refused({ said, isRoot }: { said: string; isRoot: boolean }, use: SandboxUse): HearthError {
  const allow = isRoot
    ? "Allow hearthd to create namespaces (CAP_SYS_ADMIN; in a container: --privileged)"
    : "Allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)";
  return new HearthError(
    "feature.missing",
    `hearthd cannot create a sandbox on this host, so ${use.subject} would not be isolated`,
    {
      hint: `${allow}${or(use.otherwise)}.`,
      cause: new Error(said.trim().slice(-500) || "bwrap printed no error"),
    },
  );
}

function or(otherwise: string | undefined): string {
  return otherwise === undefined ? "" : `, ${otherwise}`;
}

/** Reads the top-level directories. Merged-usr systems have links there; on others the directories are mounted. */
function readSystem(): Pick<SandboxHost, "links" | "systemDirs"> {
  const links: [string, string][] = [];
  const systemDirs = ["/usr"];
  for (const path of TOP_DIRS) {
    const entry = lstatSync(path, { throwIfNoEntry: false });
    if (entry?.isSymbolicLink()) links.push([path, readlinkSync(path)]);
    else if (entry?.isDirectory()) systemDirs.push(path);
  }
  return { links, systemDirs };
}
