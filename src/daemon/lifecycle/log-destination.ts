/** Writes hearthd's log to a file that may be full: logging never throws, and lines that are lost are counted. */

/** A file that may be full, such as a BoundedFile. */
type Appends = { append(bytes: Uint8Array): void };

/** Returns a destination for `pinoLog`. The first line after a loss says how many lines are missing before it. */
export function logDestination(file: Appends): { write(line: string): void } {
  let lostLines = 0;
  return {
    write(line) {
      try {
        if (lostLines > 0) file.append(Buffer.from(`\n${lossLine(lostLines)}\n`));
        lostLines = 0;
        file.append(Buffer.from(line));
      } catch {
        lostLines += 1; // It cannot be reported anywhere else. The next line that can be written has the count.
      }
    },
  };
}

/** Returns a line in the form of a pino warning. */
function lossLine(lines: number): string {
  return JSON.stringify({ level: 40, time: new Date().toISOString(), event: "log.lost", lines });
}
