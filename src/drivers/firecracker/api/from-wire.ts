import { HearthError } from "#base/error.ts";

/** Below these keys, names that a user has chosen stay as they are. */
const KEPT_BELOW = new Set(["properties"]);

/**
 * Converts an answer: snake_case and kebab-case keys become camelCase, and nulls are removed.
 * @param what the request for the error, such as "GET /version"
 * @throws HearthError `vmm.failed` when it is not a JSON object: then the peer is not Firecracker
 */
export function fromWire<Answer extends object>(what: string, body: unknown): Answer {
  if (!isObject(body)) {
    const shown = body === undefined ? "nothing" : (JSON.stringify(body) ?? "").slice(0, 200);
    throw new HearthError("vmm.failed", `Firecracker answered ${what} with ${shown}, not with an object.`);
  }
  return camelCased(body) as Answer;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function camelCased(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelCased);
  if (!isObject(value)) return value;
  const renamed = Object.entries(value)
    .filter(([, inner]) => inner !== null && inner !== undefined)
    .map(([key, inner]) => [camelCase(key), KEPT_BELOW.has(key) ? inner : camelCased(inner)]);
  return Object.fromEntries(renamed);
}

function camelCase(key: string): string {
  return key.replace(/[_-]([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}
