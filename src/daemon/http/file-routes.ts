import { Readable } from "node:stream";
import { ROUTES } from "#api/routes.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { callOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";
import { followLog } from "#daemon/http/follow-log.ts";
import { vmPaths } from "#daemon/vm-paths.ts";

/** What streams: files of the guest as tar, and logs. */
export function addFileRoutes(api: Api, daemon: Daemon): void {
  const { host, vms } = daemon;
  api.openapi(ROUTES.readFiles, async (c) => {
    const { signal } = callOf(c, daemon);
    const { guest } = await vms.guest(c.req.valid("param").vm, "copy", signal);
    const chunks = guest.readTar(c.req.valid("query").path, signal);
    const body = await startedStream(chunks);
    return c.body(body, 200, { "content-type": "application/x-tar" }) as never;
  });
  api.openapi(ROUTES.writeFiles, async (c) => {
    const { signal } = callOf(c, daemon);
    const { guest } = await vms.guest(c.req.valid("param").vm, "copy", signal);
    const { path, parents } = c.req.valid("query");
    const source = c.req.raw.body ?? new ReadableStream({ start: (controller) => controller.close() });
    const written = await guest.writeTar({ path, createParents: parents === "true" }, source, signal);
    return c.json(written, 200);
  });
  api.openapi(ROUTES.vmLogs, async (c) => {
    const { source, follow, lines } = c.req.valid("query");
    const vm = host.store.getVm(c.req.valid("param").vm);
    const paths = vmPaths(host.folders, vm.id);
    const log = source === "vmm" ? paths.vmmLog : paths.console;
    const text = followLog(log, {
      lines: lines === undefined ? undefined : Number(lines),
      follow: follow === "true",
      isOver: () => host.store.findVm(vm.id) === undefined,
      signal: c.req.raw.signal,
    });
    return c.body(webStream(text), 200, { "content-type": "text/plain; charset=utf-8" }) as never;
  });
}

/** An error before the first byte is an answer of its own; later ones break the stream off. */
async function startedStream(chunks: AsyncIterable<Uint8Array>): Promise<ReadableStream<Uint8Array>> {
  const iterator = chunks[Symbol.asyncIterator]();
  const first = await iterator.next();
  async function* all(): AsyncIterable<Uint8Array> {
    if (!first.done) yield first.value;
    yield* { [Symbol.asyncIterator]: () => iterator };
  }
  return webStream(all());
}

function webStream(chunks: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  return Readable.toWeb(Readable.from(chunks, { objectMode: false })) as ReadableStream<Uint8Array>;
}
