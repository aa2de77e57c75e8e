/** Block nodes of QEMU and its tools, in the terms of QMP's `blockdev-add`. */

/** A file that contains a disk, or one layer of a disk. */
export type BlockLayer = { readonly path: string; readonly format: "raw" | "qcow2" };

/** Options of a node that also apply to the file below it. */
export type BlockAccess = Readonly<Record<string, string | boolean>>;

export type BlockNode = {
  readonly driver: string;
  readonly file: BlockAccess;
  readonly backing?: BlockNode | null | undefined;
};

const READ_ONLY: BlockAccess = { "read-only": true };

/**
 * Describes a disk with all its files and formats, so that QEMU opens no file because a header names it: a header that
 * was tampered with could name any file of the host, or a server.
 * @param layers the lowest first, at least one; all but the highest are read-only
 * @param access options of the highest
 */
export function blockNode(layers: readonly BlockLayer[], access: BlockAccess = READ_ONLY): BlockNode {
  const top = layers.at(-1);
  if (top === undefined) throw new Error("a disk has at least one layer");
  const below = layers.slice(0, -1);
  return {
    driver: top.format,
    ...access,
    file: { driver: "file", filename: top.path, ...access },
    // Null keeps QEMU from following the header.
    ...(top.format === "qcow2" ? { backing: below.length === 0 ? null : blockNode(below) } : {}),
  };
}
