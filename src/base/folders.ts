import { join } from "node:path";

/** Where Hearth keeps what; every file in them is listed in docs/on-disk.md. */
export type Folders = {
  /** config.toml */
  readonly config: string;
  /** The store and what belongs to single VMs. Losing it loses VMs. */
  readonly state: string;
  /** Images, kernels. Can be built again. */
  readonly cache: string;
  /** Sockets and locks. Empty after a reboot of the host. */
  readonly run: string;
};

/** HEARTH_HOME puts all under one folder; otherwise the XDG folders, or their defaults. */
export function hearthFolders(env: Readonly<Record<string, string | undefined>>, home: string): Folders {
  const one = env["HEARTH_HOME"];
  if (one !== undefined && one !== "") {
    return {
      config: join(one, "config"),
      state: join(one, "state"),
      cache: join(one, "cache"),
      run: join(one, "run"),
    };
  }
  const xdg = (name: string, fallback: string): string => join(env[name] || join(home, fallback), "hearth");
  const state = xdg("XDG_STATE_HOME", ".local/state");
  const runtime = env["XDG_RUNTIME_DIR"];
  return {
    config: xdg("XDG_CONFIG_HOME", ".config"),
    state,
    cache: xdg("XDG_CACHE_HOME", ".cache"),
    run: runtime ? join(runtime, "hearth") : join(state, "run"),
  };
}

/** hearthd's API socket. */
export function apiSocketPath(folders: Folders): string {
  return join(folders.run, "hearthd.sock");
}
