import { isAscii, printable } from "#base/printable.ts";

const GAP = "  ";
/** The least width of a column that is cut. */
const NARROWEST = 6;

/**
 * Renders columns with a head. The widest columns are cut until a line fits into `width`. The first column has the
 * names: it is cut in the middle, and only as far as all names still look different.
 */
export function renderTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  width: number | undefined,
): string {
  const cells = [head, ...rows].map((row) => row.map(printable));
  const lengths = cells.map((row) => row.map(lengthOf));
  const widths = head.map((_, column) => Math.max(...lengths.map((row) => row[column] ?? 0)));
  if (width !== undefined) narrow(widths, width, cells);
  const lines = cells.map((row, at) => {
    const shown = row.map((cell, column) => {
      const columnWidth = widths[column] ?? 0;
      const room = columnWidth - (lengths[at]?.[column] ?? 0);
      if (room >= 0) return cell + " ".repeat(room);
      return column === 0 ? cutInside(cell, columnWidth) : cutBehind(cell, columnWidth);
    });
    return shown.join(GAP).trimEnd();
  });
  return `${lines.join("\n")}\n`;
}

/** Counts code points. Most cells are ASCII, for which that is the length. */
function lengthOf(text: string): number {
  return isAscii(text) ? text.length : Array.from(text).length;
}

/** Narrows the widest columns until the table fits. The names stay different. */
function narrow(widths: number[], width: number, cells: readonly (readonly string[])[]): void {
  const names = cells.map((row) => row[0] ?? "");
  const total = (): number => widths.reduce((sum, each) => sum + each, GAP.length * (widths.length - 1));
  const isFixed = widths.map(() => false);
  while (total() > width) {
    const candidates = widths.map((each, column) => (isFixed[column] || each <= NARROWEST ? 0 : each));
    const widest = candidates.indexOf(Math.max(...candidates));
    const next = (candidates[widest] ?? 0) - 1;
    if (next < 0) return;
    if (widest === 0 && !areDistinct(names, next)) isFixed[0] = true;
    else widths[widest] = next;
  }
}

function areDistinct(names: readonly string[], width: number): boolean {
  return new Set(names.map((name) => cutInside(name, width))).size === new Set(names).size;
}

function cutInside(text: string, width: number): string {
  if (lengthOf(text) <= width) return text;
  const points = Array.from(text);
  const behind = Math.floor((width - 1) / 2);
  return [...points.slice(0, width - 1 - behind), "…", ...points.slice(points.length - behind)].join("");
}

function cutBehind(text: string, width: number): string {
  return [...Array.from(text).slice(0, width - 1), "…"].join("");
}
