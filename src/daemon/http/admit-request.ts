import type { ServerResponse } from "node:http";
import type { MiddlewareHandler } from "hono";
import { OPERATION_HEADER, VERSION_HEADER } from "#api/events.ts";
import type { Daemon } from "#daemon/daemon.ts";
import type { ApiVariables } from "#daemon/http/api.ts";
import { operationIdFrom, parseOperationId } from "#model/ids.ts";
import type { OperationId } from "#model/ids.ts";

/** The operation that a client names in its request, or a new one. @throws HearthError `input.invalid` */
export function operationOf(daemon: Pick<Daemon, "host">, given: string | undefined): OperationId {
  return given === undefined ? operationIdFrom(daemon.host.random(6)) : parseOperationId(given);
}

/**
 * Gives each request its operation and its signal, and refuses requests when hearthd stops. The signal aborts when the
 * client goes away, and when hearthd stops, until the whole answer is sent.
 */
export function admitRequest(daemon: Daemon): MiddlewareHandler<{ Variables: ApiVariables }> {
  return async (context, next) => {
    context.header(VERSION_HEADER, daemon.version);
    const operation = operationOf(daemon, context.req.header(OPERATION_HEADER));
    context.set("operation", operation);
    context.header(OPERATION_HEADER, operation);
    const admitted = daemon.ending.admit(context.req.raw.signal);
    context.set("signal", admitted.signal);
    // There is none in tests that call the API without a server.
    const { outgoing } = (context.env ?? {}) as { outgoing?: ServerResponse };
    outgoing?.once("close", () => admitted[Symbol.dispose]());
    try {
      await Promise.race([daemon.ending.track(next()), admitted.givenUp]);
    } finally {
      if (outgoing === undefined) admitted[Symbol.dispose]();
    }
  };
}
