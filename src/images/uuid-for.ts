import { sha256 } from "#host/hash-file.ts";

/**
 * Returns a version 8 UUID that is the same for every build of the same input, so that builds differ only where their
 * content does.
 */
export function uuidFor(what: string): string {
  const hex = sha256(what);
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
