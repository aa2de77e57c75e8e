/**
 * Serves the WebSockets `/v1/vms/{vm}/exec`, `/v1/vms/{vm}/dial` and `/v1/run`. They pass the same router and middleware as every request
 * (`upgrade.ts`), and are operations:
 *
 *   1. A refusal before the upgrade is answered like any request of the API: status, headers, error body.
 *   2. The first message is the request. A command runs or a port is connected (`exec-relay.ts`), or a VM runs for one
 *      command (`serve-run.ts`).
 *   3. The last message is the exit, or an error. Then the server closes: with 1000, or with 1001 when hearthd stops.
 */
import type { WebSocket } from "ws";
import { OPERATION_HEADER, VERSION_HEADER } from "#api/events.ts";
import { dialSchema, execSchema } from "#api/exec-schemas.ts";
import { invariant } from "#base/error.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { bindingsOf, requestOf } from "#daemon/http/api.ts";
import type { Api, ApiContext } from "#daemon/http/api.ts";
import { dialInVm, execInVm } from "#daemon/http/exec-in-vm.ts";
import { ClientInput, parseFirst, sendMessage, toExecSpec } from "#daemon/http/exec-relay.ts";
import { serveRun } from "#daemon/http/serve-run.ts";
import { WEBSOCKET } from "#daemon/http/upgrade.ts";
import type { RequestContext } from "#daemon/operations/request-context.ts";

/** A client and its command. */
export type ExecSession = {
  readonly daemon: Daemon;
  readonly socket: WebSocket;
  readonly input: ClientInput;
  readonly request: RequestContext;
};

/** Adds the WebSockets for commands in VMs, connections to their ports, and VMs that run one command. */
export function addExecSockets(api: Api, daemon: Daemon): void {
  api.on(WEBSOCKET, "/v1/run", async (c) => {
    await serveRun(accept(c, daemon));
    return c.body(null, 204);
  });
  api.on(WEBSOCKET, "/v1/vms/:vm/exec", async (c) => {
    const vm = needVm(daemon, c.req.param("vm") ?? "");
    await serveExec(vm, accept(c, daemon));
    return c.body(null, 204);
  });
  api.on(WEBSOCKET, "/v1/vms/:vm/dial", async (c) => {
    const vm = needVm(daemon, c.req.param("vm") ?? "");
    await serveDial(vm, accept(c, daemon));
    return c.body(null, 204);
  });
}

function needVm({ host }: Daemon, vm: string): string {
  host.store.getVm(vm); // A VM that does not exist is refused before the upgrade.
  return vm;
}

function accept(context: ApiContext, daemon: Daemon): ExecSession {
  const { upgrade } = bindingsOf(context);
  invariant(upgrade, "a request with the method WEBSOCKET is an upgrade");
  const request = requestOf(context);
  const socket = upgrade.accept({ [VERSION_HEADER]: daemon.version, [OPERATION_HEADER]: request.operation });
  return { daemon, socket, input: new ClientInput(socket), request };
}

async function serveDial(vm: string, session: ExecSession): Promise<void> {
  const { socket, input, request } = session;
  await dialInVm(session, vm, parseFirst(dialSchema, await input.first(request.signal)));
  sendMessage(socket, { type: "exit", code: 0, timedOut: false });
}

async function serveExec(vm: string, session: ExecSession): Promise<void> {
  const { socket, input, request } = session;
  const spec = toExecSpec(parseFirst(execSchema, await input.first(request.signal)));
  sendMessage(socket, await execInVm(session, vm, spec));
}
