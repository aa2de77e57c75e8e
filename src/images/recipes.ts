/** The images that Hearth can build. */
import { HearthError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import type { Init } from "#model/vm-spec.ts";

/** The environment of commands in an image, as in OCI's image configuration. */
export type ImageConfig = {
  readonly env: Readonly<Record<string, string>>;
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly user: string;
  readonly workdir: string;
};

export type Recipe = {
  /** The name with its tag: `debian:bookworm`. Safe as a file name except for the colon. */
  readonly ref: string;
  readonly suite: string;
  /** The packages beyond those that dpkg and apt need. */
  readonly packages: readonly string[];
  readonly inits: readonly Init[];
  /** The systemd units that never start. */
  readonly maskedUnits?: readonly string[];
  readonly config: ImageConfig;
};

const DEFAULT_SUITE = "bookworm";
const SUITES = [DEFAULT_SUITE, "trixie"] as const;

/** A small image, but with tools to inspect its network and to fetch over TLS. */
const BASE_PACKAGES = ["ca-certificates", "netbase", "iproute2"] as const;
/** The packages that Hearth itself needs, for a VM that is a host of VMs: VMMs, networks, file systems. */
const HOST_PACKAGES = [
  "bubblewrap",
  "cpio",
  "dmsetup",
  "e2fsprogs",
  "nftables",
  "qemu-system-x86",
  "qemu-utils",
  "wireguard-tools",
  "xz-utils",
  "zstd",
] as const;

/**
 * Units that are useless on a short-lived machine without a person at its console. A getty hangs up the consoles that
 * other programs have open; the others look for updates periodically, or wait for a network that may never come.
 */
const IDLE_UNITS = [
  "apt-daily-upgrade.timer",
  "apt-daily.timer",
  "console-getty.service",
  "dpkg-db-backup.timer",
  "e2scrub_all.timer",
  "e2scrub_reap.service",
  "fstrim.timer",
  "getty@.service",
  "getty.target",
  "motd-news.timer",
  "serial-getty@.service",
  "systemd-tmpfiles-clean.timer",
  // /tmp stays on the disk: memory is for the guests.
  "tmp.mount",
] as const;

/** kmod: systemd's units call it if the kernel has modules. */
const SYSTEMD_PACKAGES = ["systemd", "systemd-sysv", "dbus", "udev", "procps", "kmod"] as const;

const CONFIG: ImageConfig = {
  env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
  entrypoint: [],
  cmd: ["/bin/bash"],
  user: "root",
  workdir: "/",
};

const RECIPES: readonly Recipe[] = SUITES.flatMap((suite) => [
  { ref: `debian:${suite}`, suite, packages: BASE_PACKAGES, inits: ["agent"], config: CONFIG },
  {
    ref: `debian-systemd:${suite}`,
    suite,
    packages: [...BASE_PACKAGES, ...SYSTEMD_PACKAGES],
    inits: ["agent", "systemd"],
    config: CONFIG,
  },
  {
    ref: `debian-host:${suite}`,
    suite,
    packages: [...BASE_PACKAGES, ...SYSTEMD_PACKAGES, ...HOST_PACKAGES],
    inits: ["systemd", "agent"],
    maskedUnits: IDLE_UNITS,
    config: CONFIG,
  },
]);

export const KNOWN_REFS: readonly string[] = RECIPES.map((recipe) => recipe.ref);

/** Returns the reference with its default tag, if it has none. */
export function fullRef(ref: string): string {
  return ref.includes(":") ? ref : `${ref}:${DEFAULT_SUITE}`;
}

export function findRecipe(ref: string): Recipe | undefined {
  const full = fullRef(ref);
  return RECIPES.find((recipe) => recipe.ref === full);
}

/** @throws HearthError `image.not_found` that names the nearest image, or all images */
export function getRecipe(ref: string): Recipe {
  const recipe = findRecipe(ref);
  if (recipe !== undefined) return recipe;
  const near = nearest(fullRef(ref), KNOWN_REFS);
  const hint = near === undefined ? `Images are ${KNOWN_REFS.join(", ")}.` : `Did you mean ${near}?`;
  throw new HearthError("image.not_found", `There is no image ${JSON.stringify(ref)}.`, { hint });
}
