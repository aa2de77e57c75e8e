/**
 * Runs hearthd:
 *
 * 1. Make the directories, and take the lock: one hearthd for a state directory.
 * 2. Read the configuration, open the privileged port and the store, and make the drivers.
 * 3. Start the services in order (`daemon-services.ts`): recovery comes before the API listens.
 * 4. Run until a signal, a request, or the end of the helper.
 * 5. End the services in order (`ending.ts`). VMs keep running.
 */
import { availableParallelism } from "node:os";
import { randomBytes } from "node:crypto";
import { basename, join } from "node:path";
import { CACHE_NAMES, RUN_NAMES, STATE_NAMES } from "#base/file-names.ts";
import { abandonProcess } from "#base/exit-process.ts";
import { apiSocketPath } from "#base/hearth-dirs.ts";
import { Turns } from "#base/turns.ts";
import type { Dirs } from "#base/hearth-dirs.ts";
import { HearthError } from "#base/error.ts";
import { blockEventLoop } from "#base/event-loop.ts";
import type { Log } from "#base/log.ts";
import { hearthVersion } from "#base/version.ts";
import { readConfig } from "#daemon/config.ts";
import type { Config } from "#daemon/config.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { openPort } from "#daemon/lifecycle/daemon-port.ts";
import { daemonServices } from "#daemon/lifecycle/daemon-services.ts";
import { Ending } from "#daemon/lifecycle/ending.ts";
import { EventBus } from "#daemon/event-bus.ts";
import type { Host } from "#daemon/host.ts";
import { ApiServer } from "#daemon/http/api-server.ts";
import { unixListener } from "#daemon/http/listener.ts";
import { Journals } from "#daemon/store/journal.ts";
import type { OnJournal } from "#daemon/store/journal.ts";
import { checkKvm } from "#daemon/doctor/kvm-check.ts";
import { MANAGED_FILES, makePrivateDir } from "#daemon/store/managed-files.ts";
import { Services } from "#daemon/lifecycle/service.ts";
import { Operations } from "#daemon/operations/operations.ts";
import { corruptSnapshot } from "#daemon/snapshot/snapshot-files.ts";
import { SnapshotRows } from "#daemon/store/snapshot-rows.ts";
import { openStore } from "#daemon/store/store.ts";
import { StatsReader } from "#daemon/view/vm-stats.ts";
import { jailsDir, vmRunsDir, vmsDir, volumesDir, snapshotsDir } from "#daemon/store/paths.ts";
import { MemoryPromises } from "#daemon/vm/memory-promises.ts";
import { Pools } from "#daemon/template/pools.ts";
import { Snapshots } from "#daemon/snapshot/snapshots.ts";
import { Templates } from "#daemon/template/templates.ts";
import { Vms } from "#daemon/vm/vms.ts";
import { FirecrackerDriver } from "#drivers/firecracker/firecracker-driver.ts";
import { Firecrackers } from "#drivers/firecracker/install/firecrackers.ts";
import type { VmDriver } from "#drivers/vm-driver.ts";
import { KvmVerdicts } from "#drivers/qemu/kvm-verdicts.ts";
import type { EndVmm } from "#drivers/end-vmm.ts";
import { findOrphanVmms } from "#drivers/orphan-vmms.ts";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import { reachAgent } from "#guest/wait-for-agent.ts";
import { tryFileLock } from "#host/file-lock.ts";
import type { PrivilegedPort } from "#helper/privileged-port.ts";
import { availableMemoryBytes } from "#host/available-memory.ts";
import { readUsage } from "#host/procfs.ts";
import { QemuImg } from "#host/qemu-img.ts";
import { VerifiedFiles } from "#host/verified-files.ts";
import { checkSocketPath } from "#host/unix-socket.ts";
import { ImageCache } from "#images/image-cache.ts";
import { vmDisks } from "#storage/vm-disks.ts";
import { Volumes } from "#storage/volumes.ts";

/** A guest that boots waits for its disk and its agent about half of the time. */
const BOOTS_PER_CPU = 2;

export type DaemonOptions = {
  readonly dirs: Dirs;
  /** The directory of `hearth-agent-x86_64`, `hearth-resolver-x86_64` and so on. */
  readonly agentDir: string;
  readonly log: Log;
  /** An open socket to the helper that does what needs root; undefined when this process does that. */
  readonly helperFd?: number | undefined;
  /** Called at each journal entry; crash tests end the process in it. */
  readonly onJournal?: OnJournal | undefined;
  /** Ends the process at once, as a crash would; `abandonProcess` by default. */
  readonly abandon?: (() => never) | undefined;
};

/**
 * Runs hearthd, and resolves when it has ended after `signal`. VMs keep running. Work that does not end in time is
 * abandoned with the process, and so is a recovery: the next hearthd continues both as after a crash.
 * @throws HearthError when it cannot start; nothing is changed then
 */
export async function runDaemon(
  options: DaemonOptions,
  onReady: () => void,
  signal: AbortSignal,
): Promise<void> {
  const { dirs, log, abandon = abandonProcess } = options;
  const version = hearthVersion();
  const socketPath = apiSocketPath(dirs);
  checkSocketPath(socketPath);
  const ending = new Ending();
  signal.addEventListener("abort", () => ending.begin("a signal"), { once: true });
  if (signal.aborted) return;
  await makeDirs(dirs);
  // Sockets and deadlines that a recovery waits for do not keep a process alive; this does.
  using _loop = blockEventLoop();
  using _lock = takeLock(join(dirs.run, RUN_NAMES.lock));
  const config = readConfig(dirs.config);
  const { program } = config.drivers.qemu;
  const verdicts = new KvmVerdicts({ cacheFile: join(dirs.cache, CACHE_NAMES.kvmVerdict), program });
  let gone: HearthError | undefined;
  const onGone = (error: HearthError): void => {
    gone = error;
    log.event("helper.gone", { error });
    ending.begin("the helper has ended");
  };
  using privileged = await openPort({ ...options, helperFd: options.helperFd, config, onGone });
  const host = await makeHost(options, config, verdicts, privileged.port);
  const daemon = makeDaemon(host, verdicts, version, ending);
  const listeners = [unixListener(socketPath)];
  const services = new Services(daemonServices(daemon, new ApiServer(daemon, listeners)), log);
  const asked = ending.asked.then((reason) => log.event("daemon.stopping", { reason }));
  await Promise.race([services.start(), asked]);
  if (ending.error !== undefined) abandon();
  log.event("daemon.started", { version, pid: process.pid, vms: host.store.listVms().length });
  onReady();
  await asked;
  if (!(await services.end())) abandon();
  if (gone !== undefined) throw gone; // Tells the starter of hearthd that it did not end by itself.
}

function makeDaemon(host: Host, verdicts: KvmVerdicts, version: string, ending: Ending): Daemon {
  const vms = new Vms(host);
  const snapshots = new Snapshots(host, vms);
  const templates = new Templates(host, vms, snapshots);
  return {
    host,
    vms,
    snapshots,
    templates,
    pools: new Pools(host, vms, templates),
    stats: new StatsReader(host),
    version,
    startedAtMs: host.now(),
    checkKvm: (fresh, checkSignal) => checkKvm(verdicts, host.images, fresh, checkSignal),
    ending,
    operations: new Operations(),
  };
}

async function makeDirs(dirs: Dirs): Promise<void> {
  const { state, cache, run } = dirs;
  const managed = [vmsDir(dirs), vmRunsDir(dirs), jailsDir(dirs), snapshotsDir(dirs)];
  for (const dir of [state, cache, run, ...managed]) await makePrivateDir(dir);
}

function takeLock(path: string): Disposable {
  const lock = tryFileLock(path);
  if (lock !== undefined) return lock;
  throw new HearthError("host.lock_held", "Another hearthd is already running.", {
    hint: "`hearth daemon status` shows it; `hearth daemon stop` stops it.",
  });
}

async function makeHost(
  { dirs, agentDir, log, onJournal }: DaemonOptions,
  config: Config,
  verdicts: KvmVerdicts,
  helper: PrivilegedPort,
): Promise<Host> {
  const limitations = await helper.limitations();
  const store = await openStore(join(dirs.state, STATE_NAMES.database));
  const { intervalMs } = config.health;
  const timing = { heartbeatMs: intervalMs };
  const firecrackers = new Firecrackers({ cacheDir: dirs.cache, ...config.firecracker });
  // A VM's state directory is named after its id.
  const endVmm: EndVmm = (stateDir, vmm, graceMs, signal) =>
    helper.endVmm(basename(stateDir), vmm, graceMs, signal);
  const qemu = new QemuDriver({ ...config.drivers.qemu, log, accel: verdicts, timing, endVmm });
  const firecracker = new FirecrackerDriver({
    find: (signal) => firecrackers.find(signal),
    kvm: (signal) => verdicts.cachedVerdict(signal),
    seccompFilter: config.firecracker.seccompFilter,
    timing,
    log,
    endVmm,
  });
  return {
    dirs,
    config,
    store,
    snapshots: new SnapshotRows(store),
    snapshotFiles: new VerifiedFiles(corruptSnapshot),
    journals: new Journals(store, onJournal),
    bus: new EventBus(),
    drivers: new Map<string, VmDriver>([qemu, firecracker].map((driver) => [driver.name, driver])),
    images: new ImageCache({
      cacheDir: dirs.cache,
      agentPath: (arch) => join(agentDir, `hearth-agent-${arch}`),
      log,
    }),
    firecrackers,
    disks: vmDisks(new QemuImg({ run: (tool, signal) => helper.runTool(tool, signal) })),
    volumes: new Volumes(volumesDir(dirs)),
    files: MANAGED_FILES,
    guests: {
      waitFor: (address, deadlineMs, waitSignal) => reachAgent(address, { deadlineMs }, waitSignal),
    },
    helper,
    limitations,
    processes: {
      usage: readUsage,
      orphans: findOrphanVmms,
      kill: async (id, orphan, signal) => void (await helper.endVmm(id, orphan, 0, signal)),
    },
    log,
    now: Date.now,
    uptimeMs: () => performance.now(),
    memory: new MemoryPromises(config.memory, availableMemoryBytes),
    boots: new Turns(BOOTS_PER_CPU * availableParallelism()),
    random: randomBytes,
  };
}
