import { printable } from "#base/printable.ts";

const GAP = "  ";
/** Below this a column says nothing any more. */
const NARROWEST = 6;

/**
 * Renders columns with a head; the widest ones are cut until a line fits `width`. The first column names what its row is
 * about: it is cut in the middle, and only as far as all names still look different.
 */
export function renderTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  width: number | undefined,
): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => Array.from(printable(cell))));
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  if (width !== undefined)
    narrow(
      widths,
      width,
      cells.map((row) => row[0] ?? []),
    );
  const lines = cells.map((row) =>
    row
      .map((cell, column) => {
        const shown = column === 0 ? cutInside(cell, widths[0] ?? 0) : cutBehind(cell, widths[column] ?? 0);
        return shown.join("") + " ".repeat(Math.max(0, (widths[column] ?? 0) - shown.length));
      })
      .join(GAP)
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}

function narrow(widths: number[], width: number, names: readonly (readonly string[])[]): void {
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

function areDistinct(names: readonly (readonly string[])[], width: number): boolean {
  const whole = new Set(names.map((name) => name.join("")));
  return new Set(names.map((name) => cutInside(name, width).join(""))).size === whole.size;
}

function cutInside(text: readonly string[], width: number): readonly string[] {
  if (text.length <= width) return text;
  const behind = Math.floor((width - 1) / 2);
  return [...text.slice(0, width - 1 - behind), "…", ...text.slice(text.length - behind)];
}

function cutBehind(text: readonly string[], width: number): readonly string[] {
  return text.length <= width ? text : [...text.slice(0, width - 1), "…"];
}
