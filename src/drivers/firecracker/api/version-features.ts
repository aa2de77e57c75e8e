/** Lists which versions of Firecracker have which features, from 1.12 on, and which have faults. */
import { HearthError } from "#base/error.ts";
import type { ApiRequest, Json } from "#drivers/firecracker/api/api-request.ts";
import {
  type FirecrackerVersion,
  isAtLeast,
  isOfBranch,
} from "#drivers/firecracker/api/firecracker-version.ts";

type Feature = {
  /** The feature as in a sentence: "Firecracker 1.12.1 has no …". */
  readonly what: string;
  readonly since: string;
  /** Patch releases of older branches that have it too, as do later ones of the same branch. */
  readonly backports?: readonly string[];
  /**
   * The requests that need it: all with this path, or those with `field` in their body, or with `value` in that field.
   */
  readonly path: RegExp;
  readonly field?: string;
  readonly value?: Json;
};

/**
 * Sources: Firecracker's CHANGELOG up to 1.16 and its release notes, with the number of the pull request; for 1.17 the
 * pull requests that were merged after 1.16.0 was tagged, because 1.17 is not released.
 */
export const FEATURES = {
  // #5310
  "mmds-imds-compat": {
    what: "IMDS compatibility of MMDS (imdsCompat)",
    since: "1.13.0",
    path: /^\/mmds\/config$/,
    field: "imds_compat",
  },
  // #5350
  serial: { what: "setting for the serial console's output", since: "1.14.0", path: /^\/serial$/ },
  // #5463
  pmem: { what: "pmem device", since: "1.14.0", path: /^\/pmem\// },
  // #5534
  "memory-hotplug": { what: "memory hotplug", since: "1.14.0", path: /^\/hotplug\/memory$/ },
  // #5491
  "balloon-hinting": {
    what: "free page hinting",
    since: "1.14.0",
    path: /^\/balloon$/,
    field: "free_page_hinting",
  },
  // #5491
  "balloon-hinting-runs": { what: "free page hinting", since: "1.14.0", path: /^\/balloon\/hinting\// },
  // #5491
  "balloon-reporting": {
    what: "free page reporting",
    since: "1.14.0",
    path: /^\/balloon$/,
    field: "free_page_reporting",
  },
  // #5323
  "vsock-override": {
    what: "other vsock path for a restored VM (vsockOverride)",
    since: "1.16.0",
    path: /^\/snapshot\/load$/,
    field: "vsock_override",
  },
  // #5809
  "clock-realtime": {
    what: "clock that a restore moves on (clockRealtime)",
    since: "1.16.0",
    backports: ["1.14.4", "1.15.1"],
    path: /^\/snapshot\/load$/,
    field: "clock_realtime",
  },
  // #5824
  "serial-rate-limiter": {
    what: "rate limit for the serial console",
    since: "1.16.0",
    path: /^\/serial$/,
    field: "rate_limiter",
  },
  // #5828
  "network-mtu": {
    what: "MTU for network interfaces",
    since: "1.16.0",
    path: /^\/network-interfaces\//,
    field: "mtu",
  },
  // #5789
  "pmem-rate-limiter": {
    what: "rate limit for pmem devices",
    since: "1.16.0",
    path: /^\/pmem\//,
    field: "rate_limiter",
  },
  // #5983
  "metrics-id": { what: "id in the metrics", since: "1.17.0", path: /^\/metrics$/, field: "emit_id" },
  // #5983
  "metrics-properties": {
    what: "properties in the metrics",
    since: "1.17.0",
    path: /^\/metrics$/,
    field: "properties",
  },
  // #6003
  "transparent-huge-pages": {
    what: "transparent huge pages",
    since: "1.17.0",
    path: /^\/machine-config$/,
    field: "huge_pages",
    value: "Transparent",
  },
  // #6064
  "restore-huge-pages": {
    what: "choice of huge pages for a restored VM",
    since: "1.17.0",
    path: /^\/snapshot\/load$/,
    field: "huge_pages",
  },
} as const satisfies Record<string, Feature>;

export type FeatureName = keyof typeof FEATURES;

/** Tells whether this version has the feature, by its release or a backport. Pure. */
export function hasFeature(version: FirecrackerVersion, name: FeatureName): boolean {
  return has(version, FEATURES[name]);
}

function has(version: FirecrackerVersion, { since, backports = [] }: Feature): boolean {
  return isAtLeast(version, since) || backports.some((patch) => isOfBranch(version, patch));
}

/**
 * Refuses what this version lacks, or does wrong.
 * @throws HearthError `feature.missing` with the version that has it
 */
export function requireFeatures(request: ApiRequest, version: FirecrackerVersion): void {
  for (const feature of Object.values<Feature>(FEATURES)) {
    if (!isNeeded(feature, request) || has(version, feature)) continue;
    throw new HearthError("feature.missing", `Firecracker ${version.text} has no ${feature.what}.`, {
      hint: `Use Firecracker ${feature.since} or newer.`,
    });
  }
  const fault = faultOf(request, version);
  if (fault !== undefined) throw fault;
}

function faultOf({ path, body }: ApiRequest, version: FirecrackerVersion): HearthError | undefined {
  if (!path.startsWith("/snapshot/")) return undefined;
  const isDiff = body?.["snapshot_type"] === "Diff";
  return findFault(version, "snapshot") ?? (isDiff ? findFault(version, "diff-snapshot") : undefined);
}

function isNeeded({ path, field, value }: Feature, request: ApiRequest): boolean {
  if (!path.test(request.path)) return false;
  if (field === undefined) return true;
  const given = request.body?.[field];
  return value === undefined ? given !== undefined : given === value;
}

/**
 * The kinds of faults. `vm`: running VMs at all; `snapshot`: saving and restoring them; `diff-snapshot`: saving
 * only changes; `guest-clock`: the time that a restored guest sees.
 */
export type Broken = "vm" | "snapshot" | "diff-snapshot" | "guest-clock";

type Fault = {
  readonly breaks: Broken;
  readonly from: string;
  readonly fixedIn: string;
  /** The fault as in a sentence: "Firecracker 1.16.0 …". */
  readonly why: string;
  /** Versions to use instead, as in "Use Firecracker …". */
  readonly instead: string;
};

const JUMPS = "moves the monotonic clock of a restored guest on by the time for which it was saved";
const WRONG_OFFSETS =
  "writes wrong diff snapshots of VMs with more than 3 GiB of memory, so that what is restored from them is corrupt";

/**
 * The faults. Sources as for `FEATURES`; each entry names the issue or pull request that introduced or fixed the fault.
 */
const FAULTS: readonly Fault[] = [
  {
    // #5872 introduced it, #5958 fixed it. Only VMs that an older Hearth has started still run with it.
    breaks: "snapshot",
    from: "1.16.0",
    fixedIn: "1.16.1",
    why: "loses the vsock after a restore, so that nothing in the VM can be reached",
    instead: "1.16.2 or newer, or 1.15.1",
  },
  {
    // #5882 introduced it, #6074 reports it, #6100 fixed it. A snapshot between pause and resume hides it.
    breaks: "vm",
    from: "1.16.0",
    fixedIn: "1.16.2",
    why: "makes a VM that was paused unreachable for good when it is resumed",
    instead: "1.16.2 or newer, or 1.15.1",
  },
  {
    // #5705: the second memory slot of such a VM is written at the wrong offset.
    breaks: "diff-snapshot",
    from: "1.14.0",
    fixedIn: "1.14.2",
    why: WRONG_OFFSETS,
    instead: "1.14.2 or newer",
  },
  // #5809 fixed it on three branches.
  {
    breaks: "guest-clock",
    from: "1.12.0",
    fixedIn: "1.14.4",
    why: JUMPS,
    instead: "1.14.4, 1.15.1, 1.16.2 or newer",
  },
  {
    breaks: "guest-clock",
    from: "1.15.0",
    fixedIn: "1.15.1",
    why: JUMPS,
    instead: "1.15.1, 1.16.2 or newer",
  },
];

/**
 * Returns why this version must not do something that it offers; undefined when it may. `requireFeatures` refuses
 * snapshots with it, and the search for a Firecracker refuses one with a `vm` fault.
 */
export function findFault(version: FirecrackerVersion, what: Broken): HearthError | undefined {
  const fault = FAULTS.find(
    ({ breaks, from, fixedIn }) =>
      breaks === what && isAtLeast(version, from) && !isAtLeast(version, fixedIn),
  );
  if (fault === undefined) return undefined;
  return new HearthError("feature.missing", `Firecracker ${version.text} ${fault.why}.`, {
    hint: `Use Firecracker ${fault.instead}.`,
  });
}
