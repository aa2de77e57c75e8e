import { ROUTES } from "#api/routes.ts";
import { followLog } from "#base/follow-log.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import { answerBody, emptyStream, startedStream } from "#daemon/http/started-stream.ts";
import { vmPaths } from "#daemon/store/paths.ts";

/** Adds the routes that stream: files of the guest as tar, and logs. */
export function addFileRoutes(api: Api, daemon: Daemon): void {
  const { host, vms } = daemon;
  api.openapi(ROUTES.readFiles, async (c) => {
    const { signal } = requestOf(c);
    const { vm, guest } = await vms.guest(c.req.valid("param").vm, "copy", signal);
    const chunks = used(vms.uses.begin(vm.id), guest.readTar(c.req.valid("query").path, signal));
    const body = await startedStream(chunks, c, daemon);
    return c.body(body, 200, { "content-type": "application/x-tar" }) as never;
  });
  api.openapi(ROUTES.writeFiles, async (c) => {
    const { signal } = requestOf(c);
    const { vm, guest } = await vms.guest(c.req.valid("param").vm, "copy", signal);
    using _use = vms.uses.begin(vm.id);
    const { path, parents } = c.req.valid("query");
    const source = c.req.raw.body ?? emptyStream();
    const written = await guest.writeTar({ path, createParents: parents === "true" }, source, signal);
    return c.json(written, 200);
  });
  api.openapi(ROUTES.vmLogs, async (c) => {
    const { source, follow, lines } = c.req.valid("query");
    const vm = host.store.getVm(c.req.valid("param").vm);
    const paths = vmPaths(host.dirs, vm.id);
    const log = source === "vmm" ? paths.vmmLog : paths.console;
    const text = followLog(log, {
      lines: lines === undefined ? undefined : Number(lines),
      follow: follow === "true",
      isOver: () => host.store.findVm(vm.id) === undefined,
      signal: requestOf(c).signal,
    });
    return c.body(answerBody(text, c, daemon), 200, { "content-type": "text/plain; charset=utf-8" }) as never;
  });
}

/** Yields the same chunks, and ends `use` when they are no longer read. */
async function* used(use: Disposable, chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  using _use = use;
  yield* chunks;
}
