/** hearthd's log file when the disk does not take it: nobody who logs fails for that, and what is lost is counted. */

/** A file that may be full, such as a BoundedFile. */
type Appends = { append(bytes: Uint8Array): void };

/** For `pinoLog`. The first line after a loss says how many lines are missing before it. L2. */
export function logDestination(file: Appends): { write(line: string): void } {
  let lostLines = 0;
  return {
    write(line) {
      try {
        if (lostLines > 0) file.append(Buffer.from(`\n${lossLine(lostLines)}\n`));
        lostLines = 0;
        file.append(Buffer.from(line));
      } catch {
        lostLines += 1; // There is nowhere else to say it; the next line that can be written does.
      }
    },
  };
}

/** As pino writes a warning. */
function lossLine(lines: number): string {
  return JSON.stringify({ level: 40, time: new Date().toISOString(), event: "log.lost", lines });
}
