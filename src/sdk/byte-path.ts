import { constants } from "node:fs";
import { lstat } from "node:fs/promises";
import type { Stats } from "node:fs";
import { printableName } from "#sdk/printable-name.ts";

declare const bytes: unique symbol;

/**
 * A file name or path as bytes, one in each character: Linux's names need not be UTF-8, and two that are not would
 * otherwise become the same.
 */
export type BytePath = string & { readonly [bytes]: true };

/** Turns a path that was written as text into bytes. */
export function bytePath(text: string): BytePath {
  return Buffer.from(text).toString("latin1") as BytePath;
}

/** Takes bytes of a directory, a link or a tar header as a path. */
export function bytePathOf(raw: Buffer): BytePath {
  return raw.toString("latin1") as BytePath;
}

/** Joins a directory and what lies below it. */
export function joinBytes(directory: BytePath, ...names: readonly string[]): BytePath {
  return [directory === "/" ? "" : directory, ...names].join("/") as BytePath;
}

/** Answers the directory that an absolute path lies in. */
export function dirnameBytes(path: BytePath): BytePath {
  return (path.slice(0, path.lastIndexOf("/")) || "/") as BytePath;
}

/** Gives the bytes to calls of node:fs and into tar headers. */
export function rawPath(path: BytePath): Buffer {
  return Buffer.from(path, "latin1");
}

/** Quotes a path for people; bytes that are no text show as �. */
export function shownPath(path: BytePath): string {
  return printableName(rawPath(path).toString());
}

/** Answers what lies at `path`, itself and not what it links to; undefined when nothing does. */
export async function lstatBytes(path: BytePath): Promise<Stats | undefined> {
  try {
    return await lstat(rawPath(path));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}

/** Names a kind of file as people call it. */
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
