/** Draws a terminal session as an SVG whose lines appear when they appeared in the terminal. Nothing runs in it. */

/** A line of the session, with its time since the first one. */
export type SessionLine = {
  readonly atMs: number;
  readonly kind: "command" | "note" | "progress" | "output";
  readonly text: string;
};

const COLUMNS_MAX = 92;
const COLUMN_PX = 8.4;
const LINE_PX = 20;
const MARGIN_PX = 18;
/** Lines that came together are drawn together. */
const TOGETHER_MS = 40;

const STYLE = `
    rect { fill: #16181d; }
    text { font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #d7dae0; animation: wait steps(1); }
    .command { fill: #ffffff; font-weight: 600; }
    .note { fill: #8fb573; }
    .progress { fill: #7d8590; }
    @keyframes wait { from, to { visibility: hidden; } }
    @media (prefers-reduced-motion: reduce) { text { animation: none; } }
`;

/** @throws Error when a line is wider than the picture. */
export function drawSession(title: string, lines: readonly SessionLine[]): string {
  const wide = lines.find(({ text }) => text.length > COLUMNS_MAX);
  if (wide !== undefined) throw new Error(`A line has more than ${COLUMNS_MAX} columns: ${wide.text}`);
  const columns = Math.max(...lines.map(({ text }) => text.length));
  const width = Math.ceil(columns * COLUMN_PX) + 2 * MARGIN_PX;
  const height = lines.length * LINE_PX + 2 * MARGIN_PX;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" xml:space="preserve">`,
    `  <title>${escapeText(title)}</title>`,
    `  <style>${STYLE}  </style>`,
    `  <rect width="100%" height="100%" rx="8"/>`,
    ...lines.map(drawLine),
    "</svg>\n",
  ].join("\n");
}

/** The lines of a picture, without their times. */
export function readSession(svg: string): Omit<SessionLine, "atMs">[] {
  return [...svg.matchAll(/<text class="(\w+)"[^>]*>(.*)<\/text>/g)].map(([, kind, text = ""]) => ({
    kind: kind as SessionLine["kind"],
    text: text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&"),
  }));
}

function drawLine({ atMs, kind, text }: SessionLine, index: number): string {
  const y = MARGIN_PX + (index + 0.75) * LINE_PX;
  const seconds = (Math.round(atMs / TOGETHER_MS) * TOGETHER_MS) / 1000;
  return `  <text class="${kind}" x="${MARGIN_PX}" y="${y}" style="animation-duration: ${seconds}s">${escapeText(text)}</text>`;
}

function escapeText(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
