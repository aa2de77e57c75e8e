import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";

/** The direction and paths of a `cp`. */
export type Copy =
  | {
      readonly way: "in";
      readonly vm: string;
      readonly hostPaths: readonly string[];
      readonly guestPath: string;
    }
  | { readonly way: "out"; readonly vm: string; readonly guestPath: string; readonly hostPath: string };

/** Parses the arguments of `cp`. @throws HearthError `input.invalid` unless exactly one side is a path in a VM. */
export function parseCopy(words: readonly string[]): Copy {
  const target = words.at(-1) ?? "";
  const sources = words.slice(0, -1);
  if (sources.length === 0) throw invalid("a destination is missing");
  const to = guestPath(target);
  const from = sources.map(guestPath);
  if (to !== undefined) {
    if (from.some((path) => path !== undefined)) throw invalid("both sides are in a VM");
    if (sources.includes("-") && sources.length > 1) throw invalid("- stands for one tar stream, alone");
    return { way: "in", vm: to.vm, hostPaths: sources, guestPath: to.path };
  }
  const [only] = from;
  if (only === undefined) throw invalid("no side is in a VM");
  if (sources.length > 1) throw invalid("out of a VM goes one path at a time");
  return { way: "out", vm: only.vm, guestPath: only.path, hostPath: target };
}

/** Parses `VM:PATH`. A slash before the colon makes it a path of the host. */
function guestPath(word: string): { readonly vm: string; readonly path: string } | undefined {
  const colon = word.indexOf(":");
  if (colon <= 0 || word.slice(0, colon).includes("/") || word.startsWith(".")) return undefined;
  const path = word.slice(colon + 1);
  if (path.includes("\0")) throw invalid("a path holds a NUL byte");
  // `web:` alone is the home directory of the VM's user.
  return { vm: parseVmName(word.slice(0, colon)), path: path === "" ? "." : path };
}

function invalid(what: string): HearthError {
  return new HearthError("input.invalid", `cp: ${what}.`, {
    hint: "Write `hearth cp FILE... VM:PATH`, or `hearth cp VM:PATH FILE`.",
  });
}
