/** What goes over the API socket: plain JSON, where what is absent is absent and never null. SV-033. */

export type Json =
  null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

/** A JSON object as Firecracker reads it: snake_case. */
export type Payload = { readonly [key: string]: Json };

/** One request. Bodies are copies: whoever gave the values may go on changing theirs. SV-034. */
export type ApiRequest = {
  readonly method: "GET" | "PUT" | "PATCH";
  readonly path: string;
  readonly body?: Payload | undefined;
};

/**
 * The fields that are there. Null counts as absent: a configuration that was read from JSON may carry it,
 * and Firecracker refuses null for most fields ("invalid type: null, expected a boolean").
 */
export function payload(fields: { readonly [key: string]: Json | undefined }): Payload {
  const kept: Record<string, Json> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value !== undefined && value !== null) kept[key] = value;
  }
  return kept;
}

/** Pure, and the one place where bodies are copied. */
export function apiRequest(method: ApiRequest["method"], path: string, body?: Payload): ApiRequest {
  return body === undefined ? { method, path } : { method, path, body: structuredClone(body) };
}
