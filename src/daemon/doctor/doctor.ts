/** Checks whether this host can do what Hearth needs, and names the fix where it cannot. Changes nothing. */
import { statfs } from "node:fs/promises";
import type { Doctor, DoctorCheck } from "#api/wire.ts";
import { CONFIG_FILE } from "#base/file-names.ts";
import { formatSizeRounded, GIB } from "#base/sizes.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { checkHost } from "#daemon/doctor/check-host.ts";
import { listLostFound, lostFoundDir } from "#daemon/lifecycle/lost-found.ts";
import { checkIsolation } from "#daemon/doctor/isolation-checks.ts";
import { findProgram } from "#host/find-program.ts";
import { packageOf } from "#host/run.ts";

/** The programs that build images. */
const TOOLS = ["mmdebstrap", "mke2fs", "dpkg-deb", "apt-get", "xz"] as const;
/** The space of one image, its kernel and a VM with a few packages. */
const SPACE_MIN_BYTES = 2 * GIB;

export type DoctorOptions = {
  /** True to check again what is otherwise cached, such as whether KVM works. */
  readonly fresh: boolean;
  /** True if a risk between guests is a failure, and not a warning. */
  readonly production: boolean;
};

export async function runChecks(
  daemon: Daemon,
  { fresh, production }: DoctorOptions,
  signal: AbortSignal,
): Promise<Doctor> {
  const { dirs } = daemon.host;
  // It may boot a guest to find out, and the drivers use its result.
  const kvm = await daemon.checkKvm(fresh, signal);
  const drivers = await checkDrivers(daemon, signal);
  const program = await checkFirecracker(daemon, signal);
  const checks: DoctorCheck[] = [
    { name: "hearthd", verdict: "pass", found: `version ${daemon.version}, pid ${process.pid}` },
    checkStore(daemon),
    ...(await checkLostFound(daemon)),
    await checkSpace("state", dirs.state),
    await checkSpace("cache", dirs.cache),
    ...TOOLS.map(checkTool),
    ...drivers,
    // The driver's own line may say the same.
    ...(drivers.some(({ found }) => found === program.found) ? [] : [program]),
    kvm,
    ...(await checkIsolation(daemon.host, production, signal)),
    ...(await checkImages(daemon)),
    ...checkHost(production),
  ];
  return { ok: checks.every((check) => check.verdict !== "fail"), checks };
}

function checkStore(daemon: Daemon): DoctorCheck {
  const { path } = daemon.host.store;
  return { name: "store", verdict: "pass", found: `${daemon.host.store.listVms().length} VMs in ${path}` };
}

/** Shown only when there are entries: it is about data that a user may miss. */
async function checkLostFound({ host }: Daemon): Promise<DoctorCheck[]> {
  const entries = await listLostFound(host);
  if (entries.length === 0) return [];
  const found = `${entries.length} directories in ${lostFoundDir(host.dirs)} that the store does not know`;
  const fix = "hearth system recover lists them, and creates a VM from a disk in them";
  return [{ name: "lost+found", verdict: "warn", found, fix }];
}

async function checkSpace(name: string, dir: string): Promise<DoctorCheck> {
  const { bavail, bsize } = await statfs(dir);
  const free = bavail * bsize;
  const found = `${formatSizeRounded(free)} free in ${dir}`;
  if (free >= SPACE_MIN_BYTES) return { name: `${name} directory`, verdict: "pass", found };
  const fix = "Free some space: hearth ls, hearth image ls and hearth volume ls show what uses it.";
  return { name: `${name} directory`, verdict: "warn", found, fix };
}

function checkTool(tool: string): DoctorCheck {
  const path = findProgram(tool);
  if (path !== undefined) return { name: tool, verdict: "pass", found: path };
  const fix = `apt-get install ${packageOf(tool) ?? tool}`;
  return { name: tool, verdict: "fail", found: "not installed; images cannot be built", fix };
}

async function checkDrivers(daemon: Daemon, signal: AbortSignal): Promise<DoctorCheck[]> {
  const checks: DoctorCheck[] = [];
  const drivers = [...daemon.host.drivers.values()];
  const all = await Promise.all(drivers.map((driver) => driver.features(signal)));
  // A host needs only one driver that works.
  const verdict = all.some(({ available }) => available.ok) ? "warn" : "fail";
  for (const [index, features] of all.entries()) {
    const { available, version, accel, caveats, snapshots } = features;
    const name = drivers[index]?.name ?? "";
    if (!available.ok) {
      checks.push({ name, verdict, found: available.reason, fix: available.hint });
      continue;
    }
    const decided = features.accelAssumed === true ? "KVM or emulation; the first run finds out" : accel;
    checks.push({ name, verdict: "pass", found: `version ${version ?? "unknown"}, ${decided}` });
    for (const caveat of caveats) checks.push({ name: `${name} guarantees`, verdict: "warn", found: caveat });
    for (const caveat of snapshots?.caveats ?? [])
      checks.push({ name: `${name} restored VMs`, verdict: "warn", found: caveat });
  }
  return checks;
}

/** Checks which Firecracker is used, and who owns it. None is no failure: hearthd works with another driver. */
async function checkFirecracker(daemon: Daemon, signal: AbortSignal): Promise<DoctorCheck> {
  const name = "firecracker program";
  const found = await daemon.host.firecrackers.find(signal);
  if (!found.ok) return { name, verdict: "warn", found: found.reason, fix: found.hint };
  const { version, source, program, ownerUid, mode } = found;
  const where = { config: CONFIG_FILE, path: "PATH", installed: "the cache" }[source];
  const whose = `uid ${ownerUid}, mode ${mode.toString(8).padStart(4, "0")}`;
  return { name, verdict: "pass", found: `${version} from ${where} (${whose}): ${program}` };
}

async function checkImages(daemon: Daemon): Promise<DoctorCheck[]> {
  const images = await daemon.host.images.list();
  const found =
    images.length === 0 ? "none yet; the first run builds one" : images.map((image) => image.ref).join(", ");
  return [{ name: "images", verdict: "pass", found }];
}
