import { type ApiRequest, apiRequest } from "#drivers/firecracker/api/api-request.ts";

/** `SendCtrlAltDel` is x86_64 only; `FlushMetrics` is refused before the start. */
export type VmAction = "InstanceStart" | "SendCtrlAltDel" | "FlushMetrics";

/** Returns the request of an action. Pure. */
export function putAction(action: VmAction): ApiRequest {
  return apiRequest("PUT", "/actions", { action_type: action });
}

/** Returns a request that is sent after the start. Pure. */
export function patchVm(state: "Paused" | "Resumed"): ApiRequest {
  return apiRequest("PATCH", "/vm", { state });
}
