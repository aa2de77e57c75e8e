/**
 * Writes the "newc" archives that the kernel unpacks as its first root file system. Written here because device nodes
 * then need no root, and because equal content gives equal bytes.
 */
const MODE = { file: 0o100000, dir: 0o040000, device: 0o020000 } as const;
const HEADER_BYTES = 110;
const TRAILER = "TRAILER!!!";

export type CpioEntry =
  /** Paths have no leading slash; directories come before their content. */
  | { readonly kind: "dir"; readonly path: string; readonly mode: number }
  | { readonly kind: "file"; readonly path: string; readonly mode: number; readonly content: Uint8Array }
  | {
      readonly kind: "device";
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

/**
 * Yields the archive in pieces, in order, so that large files are not copied. All entries belong to root, with mtime 0.
 */
export function formatCpio(entries: readonly CpioEntry[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (const [index, entry] of entries.entries()) {
    const content = entry.kind === "file" ? entry.content : new Uint8Array();
    pieces.push(header(entry, index + 1, content.length), content, padding(content.length));
  }
  const end: CpioEntry = { kind: "file", path: TRAILER, mode: 0, content: new Uint8Array() };
  pieces.push(header(end, 0, 0));
  return pieces.filter((piece) => piece.length > 0);
}

function header(entry: CpioEntry, inode: number, size: number): Uint8Array {
  const name = Buffer.from(`${entry.path}\0`);
  const isEnd = entry.path === TRAILER;
  const [major, minor] = entry.kind === "device" ? [entry.major, entry.minor] : [0, 0];
  const fields = [
    inode,
    isEnd ? 0 : MODE[entry.kind] | entry.mode,
    0, // uid
    0, // gid
    entry.kind === "dir" ? 2 : 1, // links
    0, // mtime
    size,
    0, // the device that the file is on
    0,
    major,
    minor,
    name.length,
    0, // no checksum in "newc"
  ];
  const text = `070701${fields.map((field) => field.toString(16).toUpperCase().padStart(8, "0")).join("")}`;
  return Buffer.concat([Buffer.from(text, "latin1"), name, padding(HEADER_BYTES + name.length)]);
}

/** Pads names and contents to a multiple of four. */
function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4);
}
