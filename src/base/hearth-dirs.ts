import { isAbsolute, join } from "node:path";
import { RUN_NAMES } from "#base/file-names.ts";
import { HearthError } from "#base/error.ts";

/** The directories of Hearth. docs/on-disk.md lists every file in them. */
export type Dirs = {
  /** Contains config.toml. */
  readonly config: string;
  /** The store, and the files of single VMs. Losing it loses VMs. */
  readonly state: string;
  /** Images and kernels. All of it can be built again. */
  readonly cache: string;
  /** Sockets and locks. Empty after a reboot of the host. */
  readonly run: string;
};

/**
 * Returns the directories below HEARTH_HOME, or else the XDG directories or their defaults.
 * @throws HearthError `config.invalid` for a relative path: hearthd works in / and would look elsewhere than its
 * client.
 */
export function hearthDirs(env: Readonly<Record<string, string | undefined>>, home: string): Dirs {
  const one = absoluteSetting(env, "HEARTH_HOME");
  if (one !== undefined) {
    return {
      config: join(one, "config"),
      state: join(one, "state"),
      cache: join(one, "cache"),
      run: join(one, "run"),
    };
  }
  const xdg = (name: string, fallback: string): string =>
    join(absoluteSetting(env, name) ?? join(absolutePath("HOME", home), fallback), "hearth");
  const state = xdg("XDG_STATE_HOME", ".local/state");
  const runtime = absoluteSetting(env, "XDG_RUNTIME_DIR");
  return {
    config: xdg("XDG_CONFIG_HOME", ".config"),
    state,
    cache: xdg("XDG_CACHE_HOME", ".cache"),
    run: runtime === undefined ? join(state, "run") : join(runtime, "hearth"),
  };
}

/**
 * Reads a variable that names a directory. An empty one counts as not set.
 * @throws HearthError `config.invalid`
 */
export function absoluteSetting(
  env: Readonly<Record<string, string | undefined>>,
  name: string,
): string | undefined {
  const value = env[name];
  return value === undefined || value === "" ? undefined : absolutePath(name, value);
}

function absolutePath(name: string, value: string): string {
  if (isAbsolute(value)) return value;
  throw new HearthError("config.invalid", `${name} must be an absolute path, not ${JSON.stringify(value)}.`, {
    hint: `Set it to an absolute path, such as ${name}="$PWD/${value.replace(/^\.\//, "")}".`,
  });
}

/** Returns the path of hearthd's API socket. */
export function apiSocketPath(dirs: Dirs): string {
  return join(dirs.run, RUN_NAMES.socket);
}
