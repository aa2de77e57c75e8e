/** What this host's jails are made of, and whether it can make one at all. Asked once in hearthd's life. */
import { lstatSync, readlinkSync } from "node:fs";
import { HearthError } from "#base/error.ts";
import type { JailHost } from "#drivers/jail/jail-command.ts";
import { findProgram } from "#host/find-program.ts";
import { missingTool, run } from "#host/run.ts";

const TOP_FOLDERS = ["/lib", "/lib64", "/lib32", "/libx32", "/bin", "/sbin"];
/** Making a jail takes 5 ms on an idle machine. */
const TRY_TIMEOUT_MS = 20_000;
const WITHOUT = "or make the VM without these walls: --no-jail --no-pid-ns";

let known: Promise<JailHost | HearthError> | undefined;

/**
 * @throws HearthError `host.tool_missing` without bubblewrap or util-linux, `feature.missing` where the kernel
 * lets hearthd make no namespaces. Both name the cure, and the flags that do without.
 */
export async function findJailHost(signal: AbortSignal): Promise<JailHost> {
  // Not the caller's signal: others wait for the same answer.
  known ??= tryJail(new AbortController().signal);
  const found = await known;
  signal.throwIfAborted();
  if (!(found instanceof Error)) return found;
  known = undefined; // It may have been mended.
  throw found;
}

async function tryJail(signal: AbortSignal): Promise<JailHost | HearthError> {
  const programs = {
    bwrap: findProgram("bwrap"),
    setpriv: findProgram("setpriv"),
    prlimit: findProgram("prlimit"),
  };
  for (const [name, path] of Object.entries(programs)) if (path === undefined) return notInstalled(name);
  const { bwrap = "", setpriv = "", prlimit = "" } = programs;
  const host: JailHost = { bwrap, setpriv, prlimit, ...readSystem(), isRoot: process.geteuid?.() === 0 };
  const tried = await run(bwrap, trialArguments(host), { timeoutMs: TRY_TIMEOUT_MS, signal });
  return tried.ok ? host : refused(host, tried.stderr);
}

/** All kinds of namespaces that a jail takes, around a program that does nothing. */
function trialArguments(host: JailHost): string[] {
  return [
    ["--unshare-ipc", "--unshare-uts", "--unshare-cgroup", "--unshare-pid", "--unshare-net", "--as-pid-1"],
    ["--clearenv", "--new-session", "--cap-drop", "ALL"],
    host.systemFolders.flatMap((path) => ["--ro-bind", path, path]),
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

function notInstalled(name: string): HearthError {
  const missing = missingTool(name);
  const hint = `${missing.hint?.replace(/\.$/, "") ?? ""}, ${WITHOUT}.`;
  return new HearthError("host.tool_missing", `VMs are confined with \`${name}\`, which is not installed.`, {
    hint,
  });
}

function refused(host: JailHost, said: string): HearthError {
  const allow = host.isRoot
    ? "Let hearthd make namespaces (CAP_SYS_ADMIN; in a container: --privileged)"
    : "Allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)";
  return new HearthError("feature.missing", "This host lets hearthd make no jail for the VMM", {
    hint: `${allow}, ${WITHOUT}.`,
    cause: new Error(said.trim().slice(-500) || "bwrap said nothing"),
  });
}

/** Merged-usr systems have links at the top; on others the folders themselves are shown. */
function readSystem(): Pick<JailHost, "links" | "systemFolders"> {
  const links: [string, string][] = [];
  const systemFolders = ["/usr"];
  for (const path of TOP_FOLDERS) {
    const entry = lstatSync(path, { throwIfNoEntry: false });
    if (entry?.isSymbolicLink()) links.push([path, readlinkSync(path)]);
    else if (entry?.isDirectory()) systemFolders.push(path);
  }
  return { links, systemFolders };
}
