/** A whole host in memory, with a real store. Keeps the promises of the real one, and reports what is left over. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { HearthError } from "#base/error.ts";
import type { Log, LogEvent } from "#base/log.ts";
import { AGENT_PATIENCE } from "#daemon/vm/answering-guest.ts";
import { parseConfig } from "#daemon/config.ts";
import { EventBus } from "#daemon/event-bus.ts";
import type { Disks, Guests, Host, Images, ManagedFiles, Processes } from "#daemon/host.ts";
import { MemoryPromises } from "#daemon/vm/memory-promises.ts";
import { Journals } from "#daemon/store/journal.ts";
import { MANAGED_FILES } from "#daemon/store/managed-files.ts";
import type { FlowKind, Journal, StepEvent } from "#daemon/store/journal.ts";
import { corruptSnapshot } from "#daemon/snapshot/snapshot-files.ts";
import { SnapshotRows } from "#daemon/store/snapshot-rows.ts";
import { Store } from "#daemon/store/store.ts";
import type { DriverFeatures, Snapshotter, VmDriver, VmmStatus } from "#drivers/vm-driver.ts";
import type { Limitations, PrivilegedPort } from "#helper/privileged-port.ts";
import { VerifiedFiles } from "#host/verified-files.ts";
import type { ImageDigest } from "#model/ids.ts";
import type { VmExit } from "#model/vm-handle.ts";
import { Volumes } from "#storage/volumes.ts";
import { fakeDisks } from "#testing/fake-disks.ts";
import { FakeDriver } from "#testing/fake-driver.ts";
import { FakeVmms } from "#testing/fake-vmms.ts";
import type { FakeVmm } from "#testing/fake-vmms.ts";
import { fakeGuest, initRuns, untilItAnswers } from "#testing/fake-guest.ts";
import type { GuestFaults } from "#testing/fake-guest.ts";
import { fakeHelper, FakeIsolation } from "#testing/fake-helper.ts";
import { Turns } from "#base/turns.ts";
import { untilAborted } from "#testing/guest-command.ts";
import { Life, mortal } from "#testing/life.ts";

export const FAKE_DIGEST = `sha256:${"0".repeat(64)}` as ImageDigest;

/** A disk would be most of the time of a test that starts hundreds of hearthds. */
const IN_MEMORY = "/dev/shm";

/** The parts of a host that outlive hearthd: the store's file, directories, disks, VMMs. */
export class FakeMachine implements Disposable {
  readonly dir = mkdtempSync(join(existsSync(IN_MEMORY) ? IN_MEMORY : tmpdir(), "hearth-fake-"));
  readonly vmms = new FakeVmms();
  readonly isolation = new FakeIsolation();
  readonly events: { name: string; fields: unknown }[] = [];
  /** The size of any snapshot's files. */
  snapshotBytes = 0;
  /** The free space. */
  freeBytes = Infinity;
  /** The memory that new processes can have. */
  availableBytes = Infinity;

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** Returns the VMM of the VM with this name, or whose guest has that VM's identity. */
  vmm(name: string): FakeVmm {
    const running = this.vmms.running();
    const named = running.filter(({ plan }) => plan.name === name);
    const [vmm, ...others] =
      named.length > 0 ? named : running.filter(({ guest }) => guest.hostname === name);
    if (vmm === undefined || others.length > 0)
      throw new Error(`${name} has ${others.length} VMMs too many.`);
    return vmm;
  }

  /** Returns everything that removed VMs and snapshots must not leave. */
  leftovers(): string[] {
    return [
      ...MANAGED.flatMap((root) => namesIn(join(this.dir, root)).map((name) => join(root, name))),
      ...this.vmms.running().map((vmm) => `VMM ${vmm.pid}`),
      ...this.isolation.leftovers(),
    ];
  }
}

/** Directories whose entries each belong to a VM or a snapshot. */
const MANAGED = ["state/vms", "state/snapshots", "state/jails", "run/vms"];

function namesIn(dir: string): string[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { recursive: true, encoding: "utf8" }).toSorted();
}

export type FakeHostOptions = {
  /** When it ends. */
  readonly life?: Life;
  /** config.toml. */
  readonly config?: string;
  /** `fake` when left out. */
  readonly driverName?: string;
  /** The differences of its driver. */
  readonly features?: Partial<DriverFeatures>;
  /** The Firecrackers of the host; by default none. */
  readonly firecrackers?: Host["firecrackers"];
};

/** The features of a driver with layered disks. */
export const LAYERED: Partial<DriverFeatures> = {
  snapshots: { diskFormat: "qcow2", vmmFingerprint: "fake 1.0.0", caveats: [] },
};

/** Stands for one run of hearthd on a `FakeMachine`. */
export class FakeHost implements Host {
  readonly machine: FakeMachine;
  readonly driver: FakeDriver;
  readonly config;
  readonly bus = new EventBus();
  readonly dirs;
  readonly store;
  readonly snapshots;
  readonly snapshotFiles = new VerifiedFiles(corruptSnapshot);
  readonly volumes;
  readonly journals;
  readonly drivers: ReadonlyMap<string, VmDriver>;
  readonly helper: PrivilegedPort;
  limitations: Limitations = { uid: undefined, cgroup: undefined, network: undefined, domains: undefined };
  readonly disks: Disks;
  readonly files: ManagedFiles;
  readonly processes;
  readonly guestFaults: GuestFaults = {};
  /** The boot files of every image. */
  bootFiles = { kernelDigest: "sha256:kernel", initramfs: "/initramfs-1" };
  readonly log: Log = this.#log({});
  readonly #life: Life;
  #lastMs = 0;

  constructor(machine: FakeMachine, options: FakeHostOptions = {}) {
    const { life = new Life(), config = "warm.enabled = false", driverName = "fake", features } = options;
    const at = (name: string): string => join(machine.dir, name);
    this.machine = machine;
    this.#life = life;
    this.config = parseConfig("config.toml", config);
    this.memory = new MemoryPromises(this.config.memory, () => machine.availableBytes);
    this.dirs = { config: at("config"), state: at("state"), cache: at("cache"), run: at("run") };
    const store = new Store(at("hearth.db"), () => this.now());
    this.store = mortal(life, "store", store, STORE_EFFECTS);
    // Their files have separate names.
    const rowsIn = mortal(life, "store", store, []);
    this.snapshots = mortal(life, "snapshots", new SnapshotRows(rowsIn, () => this.now()), ROW_EFFECTS);
    this.journals = new MortalJournals(life, rowsIn);
    this.volumes = new Volumes(at("volumes"));
    this.driver = new FakeDriver({
      name: driverName,
      vmms: machine.vmms,
      did: (what) => life.unlessDead(Promise.try(() => life.did(`driver, ${what}`))),
    });
    this.driver.description = { ...this.driver.description, ...features };
    this.drivers = new Map([[this.driver.name, mortalDriver(life, this.driver)]]);
    const isRunning = (vm: string): boolean => machine.vmms.running().some(({ plan }) => plan.id === vm);
    this.helper = mortal(life, "helper", fakeHelper(machine.isolation, isRunning), HELPER_EFFECTS);
    const disks = {
      vmms: machine.vmms,
      did: (what: string) => life.did(what),
      snapshotBytes: () => machine.snapshotBytes,
    };
    this.disks = mortal(life, "disks", fakeDisks(disks), DISK_EFFECTS);
    this.files = mortal(life, "files", fakeFiles(machine), ["makeDir", "removeTree", "moveAside"]);
    this.processes = mortal(life, "processes", fakeProcesses(machine.vmms), ["kill"]);
    this.firecrackers = options.firecrackers ?? NO_FIRECRACKERS;
  }

  /** Returns a later time at each call, so that the order of events is known. */
  now = (): number => (this.#lastMs = Math.max(Date.now(), this.#lastMs + 1));
  boots = new Turns(100);
  readonly memory;
  uptimeMs = (): number => performance.now();
  random = (bytes: number): Uint8Array => randomBytes(bytes);

  readonly images = {
    ensure: async () => ({ digest: FAKE_DIGEST, inits: ["agent", "systemd"] }),
    bootSet: async () => ({
      ...this.bootFiles,
      kernel: "/kernel",
      base: "/base.ext4",
      config: { env: {}, entrypoint: [], cmd: [] },
    }),
    listKernels: async () => [],
    list: async () => [],
    find: async () => undefined,
    get: noSuchImage,
    remove: noSuchImage,
    assertThere: () => {},
    cleanUp: async () => {},
  } as unknown as Images;

  readonly firecrackers: Host["firecrackers"];

  /** hearthd's own environment, unless a test changes it before it starts a VM. */
  readonly patience = { ...AGENT_PATIENCE };
  readonly guests: Guests = {
    patience: this.patience,
    waitFor: async (address, deadlineMs, signal) => {
      this.#life.assertAlive();
      signal.throwIfAborted();
      const inTime = AbortSignal.any([signal, AbortSignal.timeout(deadlineMs)]);
      await untilItAnswers(this.machine.vmms, address, inTime);
      if (this.guestFaults.silent === "guest") await untilAborted(inTime);
      delete this.guestFaults.silent; // Earlier connections stay silent.
      if ((this.guestFaults.unreachableAfterInit ?? 0) > 0 && initRuns(this.machine.vmms, address)) {
        this.guestFaults.unreachableAfterInit = (this.guestFaults.unreachableAfterInit ?? 0) - 1;
        throw new HearthError("agent.unreachable", "The guest agent does not answer.");
      }
      if ((this.guestFaults.unreachable ?? 0) > 0) {
        this.guestFaults.unreachable = (this.guestFaults.unreachable ?? 0) - 1;
        throw new HearthError("agent.unreachable", "The guest agent does not answer.");
      }
      return fakeGuest(this.machine.vmms, address, this.guestFaults, this.#life);
    },
  };

  #log(fields: Readonly<Record<string, string>>): Log {
    return {
      event: <Name extends keyof LogEvent>(name: Name, more: LogEvent[Name]) =>
        void this.machine.events.push({ name, fields: { ...fields, ...more } }),
      child: (more) => this.#log({ ...fields, ...more }),
    };
  }
}

const NO_FIRECRACKERS: Host["firecrackers"] = {
  find: async () => ({
    ok: false,
    reason: "Firecracker is not installed.",
    hint: "Install it: hearth firecracker install",
    refused: undefined,
  }),
  list: async () => [],
  install: () => Promise.reject(new HearthError("download.failed", "There is no network here.")),
};

async function noSuchImage(ref: string): Promise<never> {
  throw new HearthError("image.not_found", `There is no image ${ref}.`);
}

const STORE_EFFECTS = [
  "insertVm",
  "claimVm",
  "setState",
  "setSpec",
  "setError",
  "keepVm",
  "deleteVm",
  "transaction",
] as const;
const ROW_EFFECTS = ["insert", "setReady", "touchIfThere", "unlist", "delete"] as const;
const HELPER_EFFECTS = [
  "leaseUid",
  "releaseUid",
  "giveFiles",
  "takeFiles",
  "sealMemory",
  "makeCgroup",
  "removeCgroup",
  "makeNetwork",
  "setNetworkPolicy",
  "setNetworkLimit",
  "removeNetwork",
  "removeJail",
] as const;
const DISK_EFFECTS = [
  "create",
  "fromSnapshot",
  "freeze",
  "finishLayers",
  "overlay",
  "commitResumeOverlay",
  "remove",
] as const;

/** Makes every line of a journal an effect: `journalled` is its name. */
class MortalJournals extends Journals {
  readonly #life: Life;

  constructor(life: Life, store: Store) {
    super(store, (kind, step, event) => life.did(journalled(kind, step, event)));
    this.#life = life;
  }

  override open(...args: Parameters<Journals["open"]>): Journal & Disposable {
    this.#life.will(`journal: ${args[1]} begins`);
    const journal = super.open(...args);
    this.#life.did(`journal: ${args[1]} begins`);
    return {
      write: (step, event) => {
        this.#life.will(journalled(args[1], step, event));
        journal.write(step, event);
      },
      [Symbol.dispose]: () => {
        this.#life.will(`journal: ${args[1]} ends`);
        journal[Symbol.dispose]();
        this.#life.did(`journal: ${args[1]} ends`);
      },
    };
  }
}

export function journalled(kind: FlowKind, step: string, event: StepEvent): string {
  return `journal: ${kind}, "${step}" ${event}`;
}

/** A VMM that a dead hearthd has followed does not call it back. */
function mortalDriver(life: Life, driver: FakeDriver): VmDriver {
  const guarded = mortal<VmDriver>(life, "driver", driver, ["boot", "pause", "resume", "stop"]);
  const watch: VmDriver["watch"] = (handle, on, signal) => {
    const exited = (exit: VmExit): void => void (life.isOver || on.exited(exit));
    const silent = (silentMs: number): void => void (life.isOver || on.silent(silentMs));
    const status = (said: VmmStatus): void => void (life.isOver || on.status?.(said));
    driver.watch(handle, { exited, silent, status }, signal);
  };
  return new Proxy(guarded, {
    get(target, key) {
      if (key === "watch") return watch;
      if (key === "snapshotter") return driver.snapshotter && mortalSnapshotter(life, driver.snapshotter);
      return Reflect.get(target, key);
    },
  });
}

/** Keeps a dead hearthd from cleaning up after a failed save. */
function mortalSnapshotter(life: Life, snapshotter: Snapshotter): Snapshotter {
  const guarded = mortal(life, "driver", snapshotter, ["save", "finalize", "restore"]);
  const save: Snapshotter["save"] = (handle, saved, hooks, signal) => {
    const quiesce = (): Promise<void> => life.unlessDead(hooks.quiesce());
    const onPaused = (): Promise<void> => life.unlessDead(hooks.onPaused());
    return guarded.save(handle, saved, { ...hooks, quiesce, onPaused }, signal);
  };
  return new Proxy(guarded, {
    get: (target, key) => (key === "save" ? save : Reflect.get(target, key)),
  });
}

function fakeFiles(machine: FakeMachine): ManagedFiles {
  return {
    makeDir: async (path) => void mkdirSync(path, { recursive: true }),
    removeTree: async (root, path) => {
      if (dirname(path) !== root) throw new HearthError("path.unmanaged", `${path} is not in ${root}.`);
      rmSync(path, { recursive: true, force: true });
    },
    listDirs: async (root) => (existsSync(root) ? readdirSync(root) : []),
    moveAside: MANAGED_FILES.moveAside,
    checkRoom: async (path, bytes) => {
      if (bytes > machine.freeBytes) throw new HearthError("host.disk_full", `There is no room for ${path}.`);
    },
  };
}

function fakeProcesses(vmms: FakeVmms): Processes {
  return {
    usage: () => ({ cpuTicks: 100, rssBytes: 1, vszBytes: 2, ageMs: 10_000 }),
    orphans: (runDir) =>
      vmms
        .running()
        .filter((vmm) => vmm.plan.runDir === runDir)
        .map(({ pid }) => ({ pid, startTicks: pid, hostBootId: "" })),
    kill: async (_id, { pid }) => {
      const vmm = vmms.find(pid);
      if (vmm) vmms.end(vmm, { reason: "asked", atMs: 0 });
    },
  };
}
