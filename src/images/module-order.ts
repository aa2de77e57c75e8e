/** Decides which modules a guest needs before its root file system is mounted, and in which order they load. */

/** The files of depmod(8), `modules.dep` and `modules.softdep`, and of the kernel's build, `modules.builtin`. */
export type ModuleIndex = { readonly dep: string; readonly softdep: string; readonly alias: string };

/** Each path, relative to the modules' directory, with the paths that must be loaded first. */
export function parseModulesDep(text: string): Map<string, readonly string[]> {
  const modules = new Map<string, readonly string[]>();
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    modules.set(
      line.slice(0, colon),
      line
        .slice(colon + 1)
        .split(" ")
        .filter(Boolean),
    );
  }
  return modules;
}

/**
 * Returns the name of a module: `kernel/drivers/char/hw_random/virtio-rng.ko.xz` is `virtio_rng`, because the kernel
 * treats `-` and `_` alike.
 */
export function moduleName(path: string): string {
  const file = path.slice(path.lastIndexOf("/") + 1);
  return file.replace(/\.ko(\.\w+)?$/, "").replaceAll("-", "_");
}

/**
 * Returns the wanted modules and their dependencies, each after those that it needs. A wanted one that is not in the
 * index is left out: it is built into this kernel, or this kernel does not have it.
 */
export function planModuleOrder(wanted: readonly string[], index: ModuleIndex): string[] {
  const dependencies = parseModulesDep(index.dep);
  const byName = new Map([...dependencies.keys()].map((path) => [moduleName(path), path]));
  const soft = parseSoftDependencies(index.softdep);
  const order: string[] = [];
  const seen = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path)) return;
    seen.add(path);
    const early = soft.get(moduleName(path)) ?? [];
    for (const name of early) for (const found of resolve(name, byName, index.alias)) visit(found);
    // depmod lists a module's dependencies with the one to load first last.
    for (const needed of (dependencies.get(path) ?? []).toReversed()) visit(needed);
    order.push(path);
  };
  for (const name of wanted) {
    const path = byName.get(name.replaceAll("-", "_"));
    if (path !== undefined) visit(path);
  }
  return order;
}

/** `softdep ext4 pre: crc32c` is requested by name at run time, so depmod cannot see it. */
function parseSoftDependencies(text: string): Map<string, string[]> {
  const soft = new Map<string, string[]>();
  for (const match of text.matchAll(/^softdep (\S+) pre: ([^\n]*?)(?: post: .*)?$/gm)) {
    const name = (match[1] ?? "").replaceAll("-", "_");
    soft.set(name, [...(soft.get(name) ?? []), ...(match[2] ?? "").split(" ").filter(Boolean)]);
  }
  return soft;
}

/** Returns the module of that name, or the generic one that provides it: faster ones need a CPU that may be missing. */
function resolve(name: string, byName: ReadonlyMap<string, string>, alias: string): string[] {
  const plain = name.replaceAll("-", "_");
  const direct = byName.get(plain);
  if (direct !== undefined) return [direct];
  const offers: string[] = [];
  for (const match of alias.matchAll(/^alias (\S+) (\S+)$/gm)) {
    if ((match[1] ?? "").replaceAll("-", "_") === plain) offers.push(match[2] ?? "");
  }
  const best = offers.find((offer) => offer.endsWith("_generic")) ?? offers[0];
  const path = best === undefined ? undefined : byName.get(best.replaceAll("-", "_"));
  return path === undefined ? [] : [path];
}
