/**
 * Forks a running VM:
 *
 * 1. Create a temporary snapshot of the source, which is paused for a moment, once.
 * 2. Create the forks' rows. They are ephemeral: after a crash, recovery removes all of them.
 * 3. Restore each from the snapshot, with its own guest identity; `AT_ONCE` of them at a time.
 * 4. Make all of them lasting VMs, in one transaction.
 * 5. Delete the snapshot. The forks' VMMs have its memory mapped, and keep it.
 */
import { failAfter, withCleanUp } from "#base/clean-up.ts";
import { HearthError } from "#base/error.ts";
import { deleteSnapshot } from "#daemon/snapshot/delete-snapshot.ts";
import type { Host } from "#daemon/host.ts";
import type { Snapshots } from "#daemon/snapshot/snapshots.ts";
import type { Call, Vms } from "#daemon/vm/vms.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import type { VmName } from "#model/ids.ts";
import type { Labels } from "#model/labels.ts";
import { LIMITS } from "#model/limits.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmRecord } from "#model/vm.ts";
import { assertCan, handleOf } from "#model/vm-state.ts";

export type ForkOptions = {
  /** The number of forks, 1 to `LIMITS.forksMax`. */
  readonly count: number;
  /** The forks are NAME-1, NAME-2, …, or NAME when there is one. The default is the source's name, with numbers. */
  readonly name?: VmName | undefined;
  readonly autoRemove?: boolean | undefined;
};

/** The number of forks that are restored at once: more only wait for each other's CPU. */
const AT_ONCE = 4;

/**
 * Creates all forks, or none: those that were made before one failed are removed.
 * @throws HearthError `name.taken`, `vm.wrong_phase`, `feature.missing`, and what a start throws
 */
export async function forkVm(
  parts: { readonly host: Host; readonly vms: Vms; readonly snapshots: Snapshots },
  nameOrId: string,
  options: ForkOptions,
  call: Call,
): Promise<VmRecord[]> {
  const { host, vms, snapshots } = parts;
  const source = host.store.getVm(nameOrId);
  assertCan("fork", source.state.phase, source.name);
  const names = forkNames(host, source.name, options);
  const snapshot = await snapshots.create(source.id, { kind: "fork" }, call);
  const made: VmRecord[] = [];
  const makeAll = async (): Promise<VmRecord[]> => {
    for (const name of names) made.push(await vms.make(newFork(host, name, source.labels, snapshot), call));
    await eachOf(made, AT_ONCE, async (fork) => void (await vms.start(fork.id, call)));
    keepAll(host, made, options);
    return made.map(({ id }) => host.store.getVm(id));
  };
  const discards = (): (() => Promise<void>)[] =>
    made.map(
      ({ id }) =>
        () =>
          vms.discard(id),
    );
  return withCleanUp(
    () => makeAll().catch((error: unknown) => failAfter(error, ...discards())),
    // The VMMs have mapped what they need of it.
    () => deleteSnapshot(host, snapshot.id),
  );
}

function newFork(host: Host, name: VmName, labels: Labels, { id, spec, imageDigest }: SnapshotRecord) {
  return {
    id: vmIdFrom(host.random(12)),
    name,
    labels,
    // Until all of them run, each is removed if hearthd crashes.
    spec: { ...spec, sourceSnapshot: id, autoRemove: true },
    imageDigest,
    state: { phase: "created" },
    ephemeral: true,
  } as const;
}

/** Makes the forks lasting VMs, all at once. @throws HearthError `vm.gone` when one of them has ended already */
function keepAll(host: Host, made: readonly VmRecord[], { autoRemove = false }: ForkOptions): void {
  const { store } = host;
  store.transaction(() => {
    for (const { id, name } of made) {
      const vm = store.findVm(id);
      if (vm === undefined || handleOf(vm.state) === undefined)
        throw new HearthError("vm.gone", `${name} ended before all copies were running.`);
      store.setSpec(id, { ...vm.spec, autoRemove });
      store.keepVm(id);
    }
  });
}

function forkNames(host: Host, source: VmName, { count, name }: ForkOptions): VmName[] {
  if (!Number.isInteger(count) || count < 1 || count > LIMITS.forksMax)
    throw new HearthError("input.invalid", `n: must be 1 to ${LIMITS.forksMax}, not ${count}.`, {
      hint: `Write a whole number from 1 to ${LIMITS.forksMax}.`,
    });
  if (name !== undefined && count === 1) return [free(host, name)];
  if (name !== undefined)
    return Array.from({ length: count }, (_, index) => free(host, numbered(name, index + 1)));
  const names: VmName[] = [];
  for (let number = 1; names.length < count; number++) {
    const next = numbered(source, number);
    if (host.store.findVm(next) === undefined) names.push(next);
  }
  return names;
}

function free(host: Host, name: VmName): VmName {
  if (host.store.findVm(name) === undefined) return name;
  throw new HearthError("name.taken", `A VM named ${name} already exists.`, {
    hint: "Choose another name: `hearth ls` lists those in use.",
  });
}

/** Returns the name with a number. Names have at most 63 characters; a long one is cut, not refused. */
function numbered(name: VmName, number: number): VmName {
  const end = `-${number}`;
  return parseVmName(`${name.slice(0, 63 - end.length).replace(/-+$/, "")}${end}`);
}

/**
 * Runs `work` on all items, `atOnce` at a time. After a failure it begins no more, waits for those under way, and
 * throws the first error.
 */
async function eachOf<Item>(
  items: readonly Item[],
  atOnce: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const left = [...items];
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    for (let item = left.shift(); item !== undefined && failures.length === 0; item = left.shift())
      await work(item).catch((error: unknown) => failures.push(error));
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  if (failures.length > 0) throw failures[0];
}
