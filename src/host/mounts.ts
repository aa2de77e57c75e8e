/** The mounts that this process sees. */
import { readFileSync, realpathSync } from "node:fs";
import { sep } from "node:path";

export type Mount = { readonly point: string; readonly options: readonly string[] };

/** Returns the mounts in the order in which they were mounted: of two at one place, the later one is visible. */
export function readMounts(mountinfo = "/proc/self/mountinfo"): Mount[] {
  const lines = readFileSync(mountinfo, "utf8").split("\n");
  return lines.flatMap((line) => {
    const [, , , , point, options] = line.split(" ");
    if (point === undefined || options === undefined) return [];
    return [{ point: unescape(point), options: options.split(",") }];
  });
}

/** Returns the mount that a file or directory is on. */
export function mountOf(path: string): Mount | undefined {
  const real = realpathSync(path);
  const above = readMounts().filter(
    ({ point }) => point === sep || real === point || real.startsWith(point + sep),
  );
  return above.reduce<Mount | undefined>(
    (best, mount) => (best === undefined || mount.point.length >= best.point.length ? mount : best),
    undefined,
  );
}

/** Decodes the octal escapes of proc_pid_mountinfo(5), such as that of a space. */
function unescape(point: string): string {
  return point.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
