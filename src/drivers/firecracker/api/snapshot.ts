import { type ApiRequest, apiRequest, payload } from "#drivers/firecracker/api/api-request.ts";
import { type FirecrackerVersion, isAtLeast } from "#drivers/firecracker/api/firecracker-version.ts";
import { HUGE_PAGES } from "#drivers/firecracker/api/machine.ts";
import { checkDevName } from "#drivers/firecracker/api/network-interface.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";
import { checkUdsPath } from "#drivers/firecracker/api/vsock.ts";

const SNAPSHOT_TYPES = ["Full", "Diff"] as const;
const BACKEND_TYPES = ["File", "Uffd"] as const;
const LOAD_HUGE_PAGES = ["Snapshot", ...HUGE_PAGES] as const;

/** Saves a paused VM, without its disks. */
export type SnapshotCreate = {
  readonly memFilePath: string;
  readonly snapshotPath: string;
  /** Default Full. */
  readonly snapshotType?: (typeof SNAPSHOT_TYPES)[number] | undefined;
};

export type MemoryBackend = {
  readonly backendType: (typeof BACKEND_TYPES)[number];
  /** The memory file, or the socket of the program that serves page faults. */
  readonly backendPath: string;
};

/** Loads a VM into a fresh process in which only logger and metrics were configured. */
export type SnapshotLoad = {
  readonly snapshotPath: string;
  /** Either this or the deprecated `memFilePath`, which equals a backend of type File. */
  readonly memBackend?: MemoryBackend | undefined;
  readonly memFilePath?: string | undefined;
  /** Enables later diff snapshots. Has another name on the wire before 1.13. */
  readonly trackDirtyPages?: boolean | undefined;
  readonly resumeVm?: boolean | undefined;
  /** TAP devices that replace those in the snapshot. */
  readonly networkOverrides?:
    readonly { readonly ifaceId: string; readonly hostDevName: string }[] | undefined;
  /** A socket that replaces the one in the snapshot; since 1.16. */
  readonly vsockOverride?: { readonly udsPath: string } | undefined;
  /** Advances kvmclock by the time that has passed; x86_64, since 1.16. */
  readonly clockRealtime?: boolean | undefined;
  /** Default Snapshot: the pages that the VM had. Since 1.17. */
  readonly hugePages?: (typeof LOAD_HUGE_PAGES)[number] | undefined;
};

/** @throws HearthError `input.invalid` */
export function createSnapshot(create: SnapshotCreate): ApiRequest {
  checked((problems) => {
    for (const field of ["memFilePath", "snapshotPath"] as const) {
      if (problems.required(`snapshot.${field}`, create[field]))
        problems.path(`snapshot.${field}`, create[field]);
    }
    problems.oneOf("snapshot.snapshotType", create.snapshotType, SNAPSHOT_TYPES);
  });
  const body = payload({
    mem_file_path: create.memFilePath,
    snapshot_path: create.snapshotPath,
    snapshot_type: create.snapshotType,
  });
  return apiRequest("PUT", "/snapshot/create", body);
}

/**
 * @param version decides the name of `trackDirtyPages`, which 1.13 changed
 * @throws HearthError `input.invalid`
 */
export function loadSnapshot(load: SnapshotLoad, version: FirecrackerVersion): ApiRequest {
  checked((problems) => checkSnapshotLoad(problems, load));
  const renamed = isAtLeast(version, "1.13.0");
  const body = payload({
    snapshot_path: load.snapshotPath,
    mem_backend:
      load.memBackend &&
      payload({ backend_type: load.memBackend.backendType, backend_path: load.memBackend.backendPath }),
    mem_file_path: load.memFilePath,
    track_dirty_pages: renamed ? load.trackDirtyPages : undefined,
    enable_diff_snapshots: renamed ? undefined : load.trackDirtyPages,
    resume_vm: load.resumeVm,
    network_overrides: load.networkOverrides?.map(({ ifaceId, hostDevName }) =>
      payload({ iface_id: ifaceId, host_dev_name: hostDevName }),
    ),
    vsock_override: load.vsockOverride && payload({ uds_path: load.vsockOverride.udsPath }),
    clock_realtime: load.clockRealtime,
    huge_pages: load.hugePages,
  });
  return apiRequest("PUT", "/snapshot/load", body);
}

function checkSnapshotLoad(problems: Problems, load: SnapshotLoad): void {
  const { memBackend, memFilePath, hugePages } = load;
  if (problems.required("snapshot.snapshotPath", load.snapshotPath))
    problems.path("snapshot.snapshotPath", load.snapshotPath);
  const given = [memBackend, memFilePath].filter((one) => one !== undefined);
  problems.check(given.length === 1, "snapshot", "given exactly one of memBackend and memFilePath", given);
  problems.oneOf("snapshot.memBackend.backendType", memBackend?.backendType, BACKEND_TYPES);
  problems.path("snapshot.memBackend.backendPath", memBackend?.backendPath);
  problems.path("snapshot.memFilePath", memFilePath);
  for (const [i, { ifaceId, hostDevName }] of (load.networkOverrides ?? []).entries()) {
    problems.id(`snapshot.networkOverrides[${i}].ifaceId`, ifaceId);
    checkDevName(problems, `snapshot.networkOverrides[${i}].hostDevName`, hostDevName);
  }
  if (load.vsockOverride !== undefined)
    checkUdsPath(problems, "snapshot.vsockOverride.udsPath", load.vsockOverride.udsPath);
  problems.oneOf("snapshot.hugePages", hugePages, LOAD_HUGE_PAGES);
  // Pages of hugetlbfs cannot be mapped from a file; Firecracker refuses it as well.
  const served = hugePages !== "2M" || memBackend?.backendType === "Uffd";
  problems.check(served, "snapshot.hugePages", "2M only with a backend of type Uffd", hugePages);
}
