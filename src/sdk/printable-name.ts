const SHOWN_CHARS = 200;

/**
 * Quotes a file name from a guest, so that no control character reaches a terminal. Names are cut after 200 characters.
 */
export function printableName(name: string): string {
  return JSON.stringify(name.length > SHOWN_CHARS ? `${name.slice(0, SHOWN_CHARS)}…` : name);
}
