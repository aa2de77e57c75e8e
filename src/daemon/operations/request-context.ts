import type { OnProgress } from "#base/progress.ts";
import type { Host } from "#daemon/host.ts";
import type { OperationId } from "#model/ids.ts";
import type { Principal } from "#model/principal.ts";

/** The context of one request, or of one piece of hearthd's own work: every action on the way to the host gets it. */
export type RequestContext = {
  readonly principal: Principal;
  /** Names the request in answers, errors, events and hearthd's log. */
  readonly operation: OperationId;
  /** Aborts when the client leaves, when the operation is cancelled, and when hearthd stops. */
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
};

/** Makes a context whose progress is published under its operation. Contexts are made nowhere else. */
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
