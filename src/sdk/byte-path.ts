import { constants } from "node:fs";
import { lstat } from "node:fs/promises";
import type { Stats } from "node:fs";
import { printableName } from "#sdk/printable-name.ts";

declare const bytes: unique symbol;

/**
 * A file name or path as bytes, one in each character. Linux names need not be UTF-8, and decoding would make two
 * different ones equal.
 */
export type BytePath = string & { readonly [bytes]: true };

/** Encodes a path that was written as text. */
export function bytePath(text: string): BytePath {
  return Buffer.from(text).toString("latin1") as BytePath;
}

/** Converts the bytes of a directory entry, a link or a tar header. */
export function bytePathOf(raw: Buffer): BytePath {
  return raw.toString("latin1") as BytePath;
}

/** Joins a directory and names below it. */
export function joinBytes(directory: BytePath, ...names: readonly string[]): BytePath {
  return [directory === "/" ? "" : directory, ...names].join("/") as BytePath;
}

/** Returns the directory of an absolute path. */
export function dirnameBytes(path: BytePath): BytePath {
  return (path.slice(0, path.lastIndexOf("/")) || "/") as BytePath;
}

/** Returns the bytes, for node:fs and tar headers. */
export function rawPath(path: BytePath): Buffer {
  return Buffer.from(path, "latin1");
}

/** Quotes a path for messages. Bytes that are not UTF-8 show as �. */
export function shownPath(path: BytePath): string {
  return printableName(rawPath(path).toString());
}

/** Returns the stats of `path` itself, without following a link; undefined if it does not exist. */
export async function lstatBytes(path: BytePath): Promise<Stats | undefined> {
  try {
    return await lstat(rawPath(path));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}

/** Returns a file's kind as a message names it. */
export function kindOf({ mode }: Pick<Stats, "mode">): string {
  return KINDS.get(mode & constants.S_IFMT) ?? "a file of an unknown type";
}

const KINDS = new Map([
  [constants.S_IFREG, "a file"],
  [constants.S_IFDIR, "a directory"],
  [constants.S_IFLNK, "a link"],
  [constants.S_IFIFO, "a FIFO"],
  [constants.S_IFSOCK, "a socket"],
  [constants.S_IFCHR, "a character device"],
  [constants.S_IFBLK, "a block device"],
]);
