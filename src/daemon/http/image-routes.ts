import { ROUTES } from "#api/routes.ts";
import type { Image } from "#api/wire.ts";
import type { Image as BuiltImage } from "#images/image-cache.ts";
import { HearthError } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import type { Host } from "#daemon/host.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import type { VmRecord } from "#model/vm.ts";
import { parseImageRef } from "#model/image-ref.ts";

const INTERNAL_USER = "a VM that hearthd makes for a template or a pool";

/**
 * Names the users of an image: VMs, and snapshots that users have made. A VM may also use the kernel of another image.
 */
function imageUsers(
  host: Pick<Host, "store" | "snapshots">,
  image: { readonly digest: string; readonly kernel: string },
): string[] {
  const uses = ({ imageDigest, spec }: Pick<VmRecord, "imageDigest" | "spec">): boolean =>
    imageDigest === image.digest || spec.kernel === image.kernel;
  const vms = host.store.listVms().filter(uses);
  const internal = vms.filter(({ spec }) => spec.internal !== undefined);
  const snapshots = host.snapshots.list().filter(({ kind, ready }) => kind === "named" && ready);
  return [
    ...vms.filter((vm) => !internal.includes(vm)).map(({ name }) => name),
    ...(internal.length > 0 ? [INTERNAL_USER] : []),
    ...snapshots.filter(uses).map(({ id, name }) => `snapshot ${name ?? id}`),
  ];
}

/** Adds the routes of images and kernels. */
export function addImageRoutes(api: Api, daemon: Daemon): void {
  const { host, templates } = daemon;
  const view = (image: BuiltImage): Image => ({
    ref: image.ref,
    digest: image.digest,
    current: image.current,
    kernel: image.kernel,
    inits: [...image.inits],
    sizeBytes: image.sizeBytes,
    allocatedBytes: image.allocatedBytes,
    builtAtMs: image.builtAtMs,
    files: image.files.map(({ name, sha256, sizeBytes }) => ({ name, sha256, sizeBytes })),
    usedBy: imageUsers(host, image),
  });

  api.openapi(ROUTES.listImages, async (c) => c.json((await host.images.list()).map(view), 200));
  api.openapi(ROUTES.showImage, async (c) =>
    c.json(view(await host.images.get(c.req.valid("param").ref)), 200),
  );
  api.openapi(ROUTES.buildImage, async (c) => {
    const { ref, fresh } = c.req.valid("json");
    const { onProgress, signal } = requestOf(c);
    const build = fresh ? host.images.rebuild : host.images.ensure;
    return c.json(view(await build.call(host.images, parseImageRef(ref), onProgress, signal)), 200);
  });
  api.openapi(ROUTES.removeImage, async (c) => {
    const { ref } = c.req.valid("param");
    const image = await host.images.get(ref);
    const assertUnused = (): void => {
      const users = imageUsers(host, image);
      if (users.length === 0) return;
      throw new HearthError("image.in_use", `${ref} is used by ${users.join(", ")}.`, {
        hint: "They need it. `hearth ls` and `hearth snapshot ls` list them.",
      });
    };
    assertUnused(); // Checked first, so that a refusal also keeps the image's templates.
    await templates.prune(image.digest);
    // By its digest: the reference may name a new build meanwhile.
    await host.images.remove(image.digest, assertUnused, requestOf(c).signal);
    return c.body(null, 204);
  });
  api.openapi(ROUTES.listKernels, async (c) => {
    const images = await host.images.list();
    const kernels = await host.images.listKernels();
    return c.json(
      kernels.map(({ release, digest, sizeBytes }) => ({
        release,
        digest,
        sizeBytes,
        usedBy: images.filter((image) => image.kernel === release).map((image) => image.ref),
      })),
      200,
    );
  });
}
