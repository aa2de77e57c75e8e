import type { CreateSnapshot, CreateVm, Snapshot, Vm } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import { DEFAULTS } from "#model/defaults.ts";
import { parseSnapshotFilters } from "#model/snapshot-filter.ts";
import { assertCan } from "#model/vm-state.ts";
import { fakeVm } from "#testing/fake-vm.ts";

/** What the archives here begin with; the rest is the snapshot as JSON. */
const ARCHIVE = "archive:";
const IDS = "abcdefghijklmnopqrstuvwxyz";

/** The snapshots and warm templates of a fake hearthd. */
export class FakeSnapshots {
  readonly #vms: Map<string, Vm>;
  readonly #named: Snapshot[] = [];
  readonly #templates: Snapshot[] = [];
  #made = 0;
  /** Archives break off in their middle, or stop there. */
  breakOff = false;
  stall = false;

  constructor(vms: Map<string, Vm>) {
    this.#vms = vms;
  }

  names(): readonly (string | undefined)[] {
    return this.#named.map(({ name }) => name);
  }

  /** By name or id. */
  get(name: string): Snapshot {
    return find(this.#named, name);
  }

  /** Some VM maps it. */
  use(id: string, vm: string): void {
    find([...this.#named, ...this.#templates], id).usedBy.push(vm);
  }

  /** What a request to `/v1/snapshots`, or to one of them, is answered with. */
  snapshots(
    method: string | undefined,
    name: string | undefined,
    action: string | undefined,
    request: unknown,
    query: URLSearchParams,
  ): unknown {
    if (method === "POST" && name === "import") return this.#import(request, query.get("name"));
    if (method === "POST" && name === undefined) return this.#create(request as CreateSnapshot);
    if (name === undefined) return this.#list(query.getAll("filter"));
    const snapshot = this.get(name);
    if (action === "restore") return this.#restore(snapshot);
    if (action === "archive") return Buffer.from(`${ARCHIVE}${JSON.stringify(snapshot)}`);
    return method === "DELETE" ? remove(this.#named, snapshot) : snapshot;
  }

  /** What a request to `/v1/warm`, or to one of them, is answered with. */
  warm(
    method: string | undefined,
    id: string | undefined,
    _action: string | undefined,
    request: unknown,
  ): unknown {
    if (id === "prune") return this.#prune();
    if (method === "POST") return this.#build(request as CreateVm);
    return id === undefined ? this.#templates : remove(this.#templates, find(this.#templates, id));
  }

  #create({ vm: of, name, labels = {}, diskOnly }: CreateSnapshot): Snapshot {
    const vm = this.#vms.get(of);
    if (vm === undefined) throw new HearthError("vm.not_found", `There is no VM ${of}.`);
    assertCan("snapshot", vm.phase, vm.name);
    const hasMemory = vm.phase === "running" && diskOnly !== true;
    const snapshot = { ...this.#saved(vm, hasMemory), labels, name: name ?? `${vm.name}-20260102-030405` };
    this.#named.unshift(snapshot);
    return snapshot;
  }

  #list(filters: readonly string[]): readonly Snapshot[] {
    const isChosen = parseSnapshotFilters(filters);
    return this.#named.filter(({ id, name = id, vm, labels }) => isChosen({ name, vm, labels }));
  }

  #import(archive: unknown, given: string | null): Snapshot {
    const text = Buffer.isBuffer(archive) ? archive.toString() : "";
    if (!text.startsWith(ARCHIVE))
      throw new HearthError("snapshot.corrupt", "The archive is damaged at hearth.json.", {
        hint: "Nothing of it was kept.",
      });
    const there = JSON.parse(text.slice(ARCHIVE.length)) as Snapshot;
    const name = given ?? there.name;
    if (this.#named.some((one) => one.name === name))
      throw new HearthError("name.taken", `There is a snapshot named ${name} already.`);
    const snapshot = { ...there, id: this.#newId(), name };
    this.#named.unshift(snapshot);
    return snapshot;
  }

  #newId(): string {
    return `sn-${"a".repeat(11)}${IDS[this.#made++ % IDS.length]}`;
  }

  #restore({ vm: name, hasMemory }: Snapshot): Vm {
    const vm = this.#vms.get(name);
    if (vm === undefined) throw new HearthError("vm.not_found", `The VM ${name} is gone.`);
    const restored: Vm = { ...vm, phase: hasMemory ? "running" : "stopped" };
    this.#vms.set(name, restored);
    return restored;
  }

  #build(like: CreateVm): Snapshot {
    const template = this.#saved(fakeVm("hearth-template", "running", 0, like), true);
    this.#templates.unshift(template);
    return template;
  }

  #prune(): { readonly removed: number } {
    const idle = this.#templates.filter(({ usedBy }) => usedBy.length === 0);
    for (const template of idle) remove(this.#templates, template);
    return { removed: idle.length };
  }

  #saved({ name, image, imageDigest, cpus, memoryBytes, network, init }: Vm, hasMemory: boolean): Snapshot {
    return {
      id: this.#newId(),
      owner: "local",
      labels: {},
      vm: name,
      image,
      imageDigest,
      hasMemory,
      ...(hasMemory && { driver: "qemu", vmm: "7.2 tcg" }),
      cpus,
      memoryBytes,
      diskBytes: DEFAULTS.diskBytes,
      network,
      init,
      allocatedBytes: 120 * 2 ** 20,
      parts: hasMemory ? [{ name: "memory", sizeBytes: memoryBytes, sha256: "0".repeat(64) }] : [],
      usedBy: [],
      createdAtMs: Date.now() - 3_700_000,
      lastUsedAtMs: Date.now() - 60_000,
    };
  }
}

function find(all: readonly Snapshot[], name: string): Snapshot {
  const found = all.find((one) => one.name === name || one.id === name);
  if (found !== undefined) return found;
  throw new HearthError("snapshot.not_found", `There is no snapshot "${name}".`, {
    hint: "`hearth snapshot ls` shows the snapshots.",
  });
}

function remove(all: Snapshot[], { id, usedBy }: Snapshot): undefined {
  if (usedBy.length > 0) throw new HearthError("snapshot.in_use", `${id} is used by ${usedBy.join(", ")}.`);
  all.splice(
    all.findIndex((one) => one.id === id),
    1,
  );
}
