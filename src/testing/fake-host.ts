/** A whole host in memory, with a real store. Keeps the promises of the real one, and says what is left over. */
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { HearthError } from "#base/error.ts";
import type { Log, LogEvent } from "#base/log.ts";
import { parseConfig } from "#daemon/config.ts";
import { EventBus } from "#daemon/event-bus.ts";
import type { Disks, Guest, Guests, HelperVerbs, Host, Images, ManagedFiles } from "#daemon/host.ts";
import { Journals } from "#daemon/journal.ts";
import type { OnJournal } from "#daemon/journal.ts";
import { corruptSnapshot } from "#daemon/snapshot-files.ts";
import { SnapshotRows } from "#daemon/snapshot-rows.ts";
import { Store } from "#daemon/store.ts";
import { VerifiedFiles } from "#host/verified-files.ts";
import type { ImageDigest } from "#model/ids.ts";
import { Volumes } from "#storage/volumes.ts";
import { FakeDriver, FakeVmms } from "#testing/fake-driver.ts";
import { fakeHelper, FakeWalls } from "#testing/fake-helper.ts";

export const FAKE_DIGEST = `sha256:${"0".repeat(64)}` as ImageDigest;

/** What a restart of hearthd does not change: the store's file, folders, disks, VMMs. */
export class FakeMachine implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), "hearth-fake-"));
  readonly vmms = new FakeVmms();
  readonly folders = new Set<string>();
  readonly disks = new Map<string, number>();
  readonly walls = new FakeWalls();
  readonly events: { name: string; fields: unknown }[] = [];

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** What a VM that is gone must not leave. */
  leftovers(): string[] {
    return [
      ...[...this.folders].map((folder) => `folder ${folder}`),
      ...[...this.disks.keys()].map((disk) => `disk ${disk}`),
      ...this.vmms.running().map((vmm) => `VMM ${vmm.pid}`),
      ...this.walls.leftovers(),
    ];
  }
}

/** One life of hearthd on a `FakeMachine`. */
export class FakeHost implements Host {
  readonly machine: FakeMachine;
  readonly driver: FakeDriver;
  readonly config = parseConfig("config.toml", "warm.enabled = false");
  readonly bus = new EventBus();
  readonly folders;
  readonly store;
  readonly snapshots;
  readonly snapshotFiles = new VerifiedFiles(corruptSnapshot);
  readonly volumes;
  readonly journals;
  readonly drivers;
  readonly helper: HelperVerbs;
  readonly guestFaults: { unreachable?: number } = {};
  readonly log: Log = this.#log({});

  constructor(machine: FakeMachine, onJournal?: OnJournal) {
    this.machine = machine;
    const at = (name: string): string => join(machine.folder, name);
    this.folders = { config: at("config"), state: at("state"), cache: at("cache"), run: at("run") };
    this.store = new Store(at("hearth.db"));
    this.snapshots = new SnapshotRows(this.store);
    this.volumes = new Volumes(at("volumes"));
    this.journals = new Journals(this.store, onJournal);
    this.driver = new FakeDriver({ vmms: machine.vmms });
    this.helper = fakeHelper(machine.walls, (vm) =>
      machine.vmms.running().some(({ plan }) => plan.id === vm),
    );
    this.drivers = new Map([[this.driver.name, this.driver]]);
  }

  now = Date.now;
  random = (bytes: number): Uint8Array => randomBytes(bytes);

  readonly images = {
    ensure: async () => ({ digest: FAKE_DIGEST, inits: ["agent"] }),
    bootSet: async () => ({
      kernel: "/kernel",
      initramfs: "/initramfs",
      base: "/base.ext4",
      config: { env: {}, entrypoint: [], cmd: [] },
    }),
    listKernels: async () => [],
  } as unknown as Images;

  readonly firecrackers: Host["firecrackers"] = {
    find: async () => ({
      ok: false,
      reason: "Firecracker is not installed.",
      hint: "Install it: hearth firecracker install",
      refused: undefined,
    }),
    list: async () => [],
    install: () => Promise.reject(new HearthError("download.failed", "There is no network here.")),
  };

  readonly disks: Disks = {
    create: async (folder, sizeBytes) => this.#setDisk(folder, sizeBytes),
    fromSnapshot: async (snapshotFolder, folder) =>
      this.#setDisk(folder, this.machine.disks.get(join(snapshotFolder, "layer-0.raw")) ?? 0),
    freeze: async (folder, snapshotFolder) =>
      void this.machine.disks.set(join(snapshotFolder, "layer-0.raw"), this.#diskOf(folder)),
    finishLayers: async () => {},
    overlay: async () => {},
    fallAsleep: async () => {},
    folderBytes: async () => 0,
    remove: async (folder) => {
      rmSync(join(folder, "disk.raw"), { force: true });
      this.machine.disks.delete(join(folder, "disk.raw"));
    },
    grow: async (folder, sizeBytes) => this.#setDisk(folder, sizeBytes),
    usage: async (folder) => ({ allocatedBytes: 0, sizeBytes: this.#diskOf(folder) }),
  };

  readonly files: ManagedFiles = {
    makeFolder: async (path) => {
      mkdirSync(path, { recursive: true });
      this.machine.folders.add(path);
    },
    removeTree: async (_root, path) => {
      rmSync(path, { recursive: true, force: true });
      for (const folder of this.machine.folders)
        if (folder === path || folder.startsWith(`${path}/`)) this.machine.folders.delete(folder);
      for (const disk of this.machine.disks.keys())
        if (disk.startsWith(`${path}/`)) this.machine.disks.delete(disk);
    },
    listFolders: async (root) =>
      [...this.machine.folders]
        .filter((path) => dirname(path) === root)
        .map((path) => path.slice(root.length + 1)),
  };

  readonly guests: Guests = {
    waitFor: async ({ agentSocket }, _deadlineMs, signal) => {
      signal.throwIfAborted();
      if ((this.guestFaults.unreachable ?? 0) > 0) {
        this.guestFaults.unreachable = (this.guestFaults.unreachable ?? 0) - 1;
        throw new HearthError("agent.unreachable", "The guest's agent does not answer.");
      }
      return this.#guest(agentSocket);
    },
  };

  readonly processes = {
    usage: () => ({ cpuTicks: 100, rssBytes: 1, vszBytes: 2 }),
    strays: (runDir: string) =>
      this.machine.vmms
        .running()
        .filter((vmm) => vmm.plan.runDir === runDir)
        .map(({ pid }) => ({ pid, startTicks: pid, hostBootId: "" })),
    kill: async ({ pid }: { pid: number }) => {
      const vmm = this.machine.vmms.find(pid);
      if (vmm) this.machine.vmms.end(vmm, { reason: "asked", atMs: 0 });
    },
  };

  #diskOf(folder: string): number {
    return this.machine.disks.get(join(folder, "disk.raw")) ?? 0;
  }

  #setDisk(folder: string, sizeBytes: number): void {
    writeFileSync(join(folder, "disk.raw"), "");
    this.machine.disks.set(join(folder, "disk.raw"), sizeBytes);
  }

  /** A guest that does as it is told, and powers off when asked. */
  #guest(socketPath: string): Guest {
    const closed = Promise.withResolvers<Error | undefined>();
    const powerOff = async (): Promise<void> => {
      const vmm = this.machine.vmms.running().find(({ plan }) => `${plan.runDir}/agent.sock` === socketPath);
      if (vmm) this.machine.vmms.end(vmm, { reason: "guest", code: 0, atMs: Date.now() });
    };
    type Part = Pick<Guest, "configure" | "exec" | "freeze" | "thaw" | "shutdown" | "close" | "closed">;
    const guest: Part = {
      configure: async () => [],
      exec: async function* () {
        yield { type: "exited", code: 0, timedOut: false };
      },
      freeze: async () => [],
      thaw: async () => {},
      shutdown: powerOff,
      close: () => closed.resolve(undefined),
      closed: closed.promise,
    };
    return guest as Guest;
  }

  #log(fields: Readonly<Record<string, string>>): Log {
    return {
      event: <Name extends keyof LogEvent>(name: Name, more: LogEvent[Name]) =>
        void this.machine.events.push({ name, fields: { ...fields, ...more } }),
      child: (more) => this.#log({ ...fields, ...more }),
    };
  }
}
