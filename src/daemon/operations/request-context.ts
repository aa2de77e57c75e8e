import type { OnProgress } from "#base/progress.ts";
import type { Host } from "#daemon/host.ts";
import type { OperationId } from "#model/ids.ts";
import type { Principal } from "#model/principal.ts";

/** One request, and one piece of work that hearthd gives itself: what every action on the way to the host gets. */
export type RequestContext = {
  readonly principal: Principal;
  /** Names the request in answers, errors, events and hearthd's log. */
  readonly operation: OperationId;
  /** Aborts when the client leaves, when somebody cancels the operation, and when hearthd stops. */
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
};

/** Makes a context whose progress is published under its operation. The only place where one begins. */
export function requestContext(
  host: Pick<Host, "bus" | "now">,
  of: Omit<RequestContext, "onProgress"> & { readonly onProgress?: OnProgress | undefined },
): RequestContext {
  const { principal, operation, signal } = of;
  return {
    principal,
    operation,
    signal,
    onProgress: (progress) => {
      of.onProgress?.(progress);
      host.bus.publish({ type: "progress", atMs: host.now(), operation, progress });
    },
  };
}
