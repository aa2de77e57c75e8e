import { streamSSE } from "hono/streaming";
import type { ApiEvent } from "#api/events.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { requestOf } from "#daemon/http/api.ts";
import type { Api } from "#daemon/http/api.ts";

/** The time between two comment lines, by which both ends see that the stream is alive. */
const KEEPALIVE_MS = 30_000;
/** The number of events that a client may have unread. A slower one is disconnected, and may connect again. */
const QUEUE_MAX = 1_000;

/** Adds `GET /v1/events`: server-sent events. Progress only for `?operation=op-…`. Ends when hearthd does. */
export function addEventRoute(api: Api, daemon: Daemon): void {
  api.get("/v1/events", (c) => {
    // A stream without a body would never end.
    if (c.req.method === "HEAD") return c.body(null, 200, { "content-type": "text/event-stream" });
    return streamSSE(c, async (stream) => {
      const operation = c.req.query("operation");
      const queue: ApiEvent[] = [];
      let wake = Promise.withResolvers<void>();
      const tell = (event: ApiEvent): void => {
        if (event.type === "progress" && event.operation !== operation) return;
        if (queue.push(event) > QUEUE_MAX) stream.abort();
        wake.resolve();
      };
      using _subscription = daemon.host.bus.subscribe(tell);
      stream.onAbort(() => wake.resolve());
      const signal = requestOf(c).signal;
      const stopping = (): void => tell({ type: "daemon.stopping", atMs: daemon.host.now() });
      signal.addEventListener("abort", stopping, { once: true });
      if (signal.aborted) stopping();
      const timer = setInterval(() => void stream.write(": alive\n\n"), KEEPALIVE_MS);
      try {
        await stream.write(": listening\n\n");
        while (!stream.aborted) {
          await wake.promise;
          wake = Promise.withResolvers<void>();
          for (const event of queue.splice(0))
            await stream.writeSSE({ event: event.type, data: JSON.stringify(event) });
          if (signal.aborted) return;
        }
      } finally {
        clearInterval(timer);
      }
    });
  });
}
