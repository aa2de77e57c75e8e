/** Unpacks the state directory that an older Hearth has left; README.md beside this says what is in it. */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { zstdDecompressSync } from "node:zlib";
import { runOrThrow } from "#host/run.ts";
import { statFingerprint } from "#host/verified-files.ts";
import { writeFakeDisk } from "#testing/fake-disks.ts";
import type { FakeMachine } from "#testing/fake-host.ts";
import { FAKE_SNAPSHOT } from "#testing/fake-snapshotter.ts";

const ARCHIVE = join(import.meta.dirname, "state.tar.zst");
const MIB = 1024 ** 2;

export const OLDER_VMS = {
  stopped: "vm-twk4uedned3e",
  created: "vm-znpuogdmphjl",
  running: "vm-x5z64gvzxh5a",
  "from-memory": "vm-zf5nkr3f2ptw",
  "not-begun": "vm-mdwr23uy7ymu",
  resumed: "vm-yqy3vxzks3qt",
} as const;

export const OLDER_SNAPSHOTS = {
  "with-memory": "sn-7s2jlfiwlqmr",
  "disk-alone": "sn-6vnszcuy6chu",
  suspended: "sn-k3fzkn754fpq",
} as const;

export const OLDER_TEMPLATES = ["sn-msenrkhx6spl", "sn-a74zgfiuvxbf"] as const;

/** The contents of the fake disks: any number, as long as no two are the same. */
export const OLDER_DISKS = {
  [OLDER_VMS.stopped]: 11,
  [OLDER_VMS.created]: 12,
  [OLDER_VMS.running]: 13,
  [OLDER_VMS["from-memory"]]: 14,
  [OLDER_VMS["not-begun"]]: 15,
  [OLDER_VMS.resumed]: 16,
  [OLDER_SNAPSHOTS["with-memory"]]: 21,
  [OLDER_SNAPSHOTS["disk-alone"]]: 22,
} as const;

/** Unpacks everything below `dir`: the directory `state`, and the stores of crashes in `crashed`. */
export async function unpackOlderState(dir: string): Promise<void> {
  mkdirSync(dir, { recursive: true });
  await runOrThrow("tar", ["-x", "-f", "-", "--no-same-owner", "-C", dir], {
    input: zstdDecompressSync(readFileSync(ARCHIVE)),
    timeoutMs: 60_000,
    signal: new AbortController().signal,
  });
}

/**
 * Gives a fake machine the older state, with fake disks in the places of the real ones.
 * @param crashed the crash whose store it has; undefined is the one of a hearthd between flows
 * @param steps how many lines of each journal there are; undefined is all of them
 */
export async function giveOlderState(machine: FakeMachine, crashed?: string, steps?: number): Promise<void> {
  const { dir } = machine;
  await unpackOlderState(dir);
  const store = join(dir, crashed === undefined ? "state/hearth.db" : `crashed/${crashed}.db`);
  renameSync(store, join(dir, "hearth.db"));
  renameSync(join(dir, "state/volumes"), join(dir, "volumes"));
  rmSync(join(dir, "crashed"), { recursive: true });
  for (const kind of ["vms", "snapshots"]) {
    for (const id of readdirSync(join(dir, "state", kind))) fakeDisksIn(join(dir, "state", kind, id), id);
  }
  if (steps !== undefined) {
    using database = new DatabaseSync(join(dir, "hearth.db"));
    database.prepare("DELETE FROM flow_steps WHERE seq > ?").run(steps);
  }
}

/**
 * Puts guest memory that a fake can restore in the place of the stand-ins, with the fingerprints that the older store
 * trusts. `written` is what the guest knows its disk to have. To be called before today's hearthd opens the store.
 */
export async function giveOlderMemory(machine: FakeMachine, id: string, written: number): Promise<void> {
  const dir = join(machine.dir, "state/snapshots", id);
  const guest = { hostname: "older", machineId: "", init: "none", frozen: true, entropy: "", written };
  const contents = {
    memory: { kept: { count: 7, memoryBytes: 256 * MIB, guest } },
    state: { version: "1.0.0", cpus: 1, diskCount: 2, finalized: true },
  };
  using database = new DatabaseSync(join(machine.dir, "hearth.db"));
  const trust = database.prepare("UPDATE snapshots SET record = json_set(record, ?, ?) WHERE id = ?");
  for (const [index, [name, content]] of Object.entries(contents).entries()) {
    const path = join(dir, name);
    rmSync(path);
    writeFileSync(path, JSON.stringify({ format: FAKE_SNAPSHOT, ...content }));
    trust.run(`$.parts[${index}].stamp`, (await statFingerprint(path)) ?? "", id);
  }
}

function fakeDisksIn(dir: string, id: string): void {
  const written = Object.entries(OLDER_DISKS).find(([name]) => name === id)?.[1] ?? 0;
  for (const name of readdirSync(dir).filter((file) => /\.(raw|qcow2)$/.test(file))) {
    rmSync(join(dir, name));
    writeFakeDisk(join(dir, name), { sizeBytes: 512 * MIB, written });
  }
}
