const SHOWN_CHARS = 200;

/** A file name from a guest, quoted: no control character reaches a terminal. */
export function printableName(name: string): string {
  return JSON.stringify(name.length > SHOWN_CHARS ? `${name.slice(0, SHOWN_CHARS)}…` : name);
}
