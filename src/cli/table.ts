import { printable } from "#cli/printable.ts";

const GAP = "  ";
/** Below this a column says nothing any more. */
const NARROWEST = 6;

/** Columns with a head; the widest ones are cut until a line fits `width`. */
export function renderTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  width: number | undefined,
): string {
  const cells = [head, ...rows].map((row) => row.map(printable));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => lengthOf(row[column] ?? ""))));
  if (width !== undefined) narrow(widths, width);
  const lines = cells.map((row) =>
    row
      .map((cell, column) => padded(cell, widths[column] ?? 0))
      .join(GAP)
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}

function narrow(widths: number[], width: number): void {
  const total = (): number => widths.reduce((sum, each) => sum + each, GAP.length * (widths.length - 1));
  while (total() > width) {
    const widest = widths.indexOf(Math.max(...widths));
    const now = widths[widest] ?? 0;
    if (now <= NARROWEST) return;
    widths[widest] = now - 1;
  }
}

function padded(text: string, width: number): string {
  const characters = Array.from(text);
  if (characters.length > width) return `${characters.slice(0, width - 1).join("")}…`;
  return text + " ".repeat(width - characters.length);
}

function lengthOf(text: string): number {
  return Array.from(text).length;
}
