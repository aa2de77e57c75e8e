import { ROUTES } from "#api/routes.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import { assertVisible } from "#daemon/http/visible-vm.ts";
import { emptyStream, startedStream } from "#daemon/http/started-stream.ts";
import { exportSnapshot, importSnapshot } from "#daemon/snapshot/snapshot-archive.ts";
import { snapshotView } from "#daemon/view/snapshot-view.ts";
import type { SnapshotRows } from "#daemon/store/snapshot-rows.ts";
import { vmView } from "#daemon/view/vm-view.ts";
import { parseSnapshotName } from "#model/ids.ts";
import type { SnapshotName, VmName } from "#model/ids.ts";
import { parseSnapshotFilters } from "#model/snapshot-filter.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";

/** Adds the routes of snapshots that users have made. */
export function addSnapshotRoutes(api: Api, daemon: Daemon): void {
  const { host, vms, snapshots } = daemon;

  api.openapi(ROUTES.listSnapshots, async (c) => {
    const chosen = listChosen(host.snapshots, [c.req.valid("query").filter ?? []].flat());
    return c.json(await Promise.all(chosen.map((one) => snapshotView(host, snapshots, one))), 200);
  });
  api.openapi(ROUTES.createSnapshot, async (c) => {
    const { vm, name, labels, diskOnly } = c.req.valid("json");
    assertVisible(daemon, vm);
    const source = host.store.getVm(vm);
    const snapshotName = name === undefined ? defaultName(source.name, host.now()) : parseSnapshotName(name);
    const options = { kind: "named", name: snapshotName, labels, diskOnly } as const;
    const made = await snapshots.create(source.id, options, requestOf(c));
    return c.json(await snapshotView(host, snapshots, made), 201);
  });
  api.openapi(ROUTES.showSnapshot, async (c) =>
    c.json(
      await snapshotView(host, snapshots, host.snapshots.get(c.req.valid("param").snapshot, "named")),
      200,
    ),
  );
  api.openapi(ROUTES.removeSnapshot, async (c) => {
    await snapshots.remove(c.req.valid("param").snapshot);
    return c.body(null, 204);
  });
  api.openapi(ROUTES.restoreSnapshot, async (c) => {
    const vm = await snapshots.restore(c.req.valid("param").snapshot, requestOf(c));
    return c.json(await vmView(host, vms, vm), 200);
  });
  api.openapi(ROUTES.exportSnapshot, async (c) => {
    const snapshot = host.snapshots.get(c.req.valid("param").snapshot, "named");
    const archive = exportSnapshot(host, snapshot, requestOf(c).signal);
    const body = await startedStream(archive, c, daemon);
    return c.body(body, 200, { "content-type": "application/zstd" }) as never;
  });
  api.openapi(ROUTES.importSnapshot, async (c) => {
    const { name } = c.req.valid("query");
    const given = name === undefined ? undefined : parseSnapshotName(name);
    const archive = c.req.raw.body ?? emptyStream();
    const made = await importSnapshot(host, archive, given, requestOf(c));
    return c.json(await snapshotView(host, snapshots, made), 201);
  });
}

/** Returns the users' snapshots that match all filters. */
function listChosen(snapshots: SnapshotRows, filters: readonly string[]): SnapshotRecord[] {
  const isChosen = parseSnapshotFilters(filters);
  return snapshots
    .list()
    .filter(({ kind, ready }) => kind === "named" && ready)
    .filter(({ id, name = id, vmName, labels }) => isChosen({ name, vm: vmName, labels }));
}

const NAME_MAX_CHARS = 63;

/** Returns a name of the VM and the time in UTC, such as web-20261125-094512. */
function defaultName(vm: VmName, nowMs: number): SnapshotName {
  const time = new Date(nowMs).toISOString().replaceAll(/[-:]/g, "").slice(0, 15).replace("T", "-");
  return parseSnapshotName(`${vm.slice(0, NAME_MAX_CHARS - time.length - 1).replace(/-+$/, "")}-${time}`);
}
