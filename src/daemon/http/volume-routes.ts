import { ROUTES } from "#api/routes.ts";
import type { Volume } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import { vmView } from "#daemon/view/vm-view.ts";
import { volumeUsers } from "#daemon/vm/volume-users.ts";
import { parseVolumeName } from "#model/ids.ts";
import { parseMountPath } from "#model/volume.ts";
import { parseVolumeFilters } from "#model/volume-filter.ts";
import type { Volume as StoredVolume } from "#storage/volumes.ts";

/** Adds the routes of volumes. */
export function addVolumeRoutes(api: Api, daemon: Daemon): void {
  const { host, vms } = daemon;
  const view = (volume: StoredVolume): Volume => ({
    ...volume,
    labels: { ...volume.labels },
    usedBy: volumeUsers(host, volume.name),
  });

  api.openapi(ROUTES.listVolumes, async (c) => {
    const { filter = [] } = c.req.valid("query");
    const isChosen = parseVolumeFilters([filter].flat());
    return c.json((await host.volumes.list()).map(view).filter(isChosen), 200);
  });
  api.openapi(ROUTES.createVolume, async (c) => {
    const { name, sizeBytes, from, labels } = c.req.valid("json");
    const { onProgress, signal } = requestOf(c);
    if (from !== undefined) onProgress({ stage: "volume", text: `copying ${from}` });
    const volume = { name: parseVolumeName(name), sizeBytes, from, labels };
    return c.json(view(await host.volumes.create(volume, signal)), 201);
  });
  api.openapi(ROUTES.attachVolume, async (c) => {
    const { name, path, readOnly = false } = c.req.valid("json");
    const mount = { name: parseVolumeName(name), path: parseMountPath(path), readOnly };
    const vm = await vms.attachVolume(c.req.valid("param").vm, mount, requestOf(c));
    return c.json(await vmView(host, vms, vm), 200);
  });
  api.openapi(ROUTES.detachVolume, async (c) => {
    const { vm: target, volume } = c.req.valid("param");
    const vm = await vms.detachVolume(target, parseVolumeName(volume), requestOf(c));
    return c.json(await vmView(host, vms, vm), 200);
  });
  api.openapi(ROUTES.showVolume, async (c) =>
    c.json(view(await host.volumes.get(parseVolumeName(c.req.valid("param").volume))), 200),
  );
  api.openapi(ROUTES.removeVolume, async (c) => {
    const name = parseVolumeName(c.req.valid("param").volume);
    // Nothing is awaited between the check and the removal, so that no VM can name it in between.
    const users = volumeUsers(host, name);
    if (users.length > 0) {
      throw new HearthError("volume.in_use", `The volume ${name} is used by ${users.join(", ")}.`, {
        hint: `\`hearth volume detach VM ${name}\` detaches it.`,
      });
    }
    await host.volumes.remove(name);
    return c.body(null, 204);
  });
}
