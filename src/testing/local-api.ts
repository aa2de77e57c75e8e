import type { Daemon } from "#daemon/daemon.ts";
import { makeApi } from "#daemon/http/api.ts";
import type { ApiBindings } from "#daemon/http/api.ts";
import { LOCAL_USER } from "#model/principal.ts";

/** The API of a hearthd without a server, asked by the user whose hearthd it is. */
export type LocalApi = { request(path: string, init?: RequestInit): Promise<Response> };

/** Makes the API for tests that need no connection. */
export function localApi(daemon: Daemon): LocalApi {
  const api = makeApi(daemon);
  const bindings: ApiBindings = { principal: LOCAL_USER };
  return { request: async (path, init) => api.request(path, init, bindings) };
}
