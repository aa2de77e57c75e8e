/** Requests on the API socket, as plain JSON: absent values are left out, and never null. */

export type Json =
  null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

/** A JSON object as Firecracker reads it: snake_case. */
export type Payload = { readonly [key: string]: Json };

/** A request. Bodies are copies: the caller may change its values later. */
export type ApiRequest = {
  readonly method: "GET" | "PUT" | "PATCH";
  readonly path: string;
  readonly body?: Payload | undefined;
};

/**
 * Returns the fields that have a value. Null is absent too: a configuration that was read from JSON may have it, and
 * Firecracker refuses null for most fields ("invalid type: null, expected a boolean").
 */
export function payload(fields: { readonly [key: string]: Json | undefined }): Payload {
  const kept: Record<string, Json> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value !== undefined && value !== null) kept[key] = value;
  }
  return kept;
}

/** Makes a request, with a copy of the body. All requests are made here. Pure. */
export function apiRequest(method: ApiRequest["method"], path: string, body?: Payload): ApiRequest {
  return body === undefined ? { method, path } : { method, path, body: structuredClone(body) };
}
