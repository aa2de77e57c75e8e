import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";
import {
  checkRateLimiter,
  type RateLimiter,
  rateLimiterPayload,
} from "#drivers/firecracker/api/rate-limiter.ts";

const CACHE_TYPES = ["Unsafe", "Writeback"] as const;
const IO_ENGINES = ["Sync", "Async"] as const;

/** A file or block device (`pathOnHost`), or the socket of a vhost-user-block program (`socket`). */
export type Drive = {
  readonly driveId: string;
  readonly isRootDevice: boolean;
  /** The PARTUUID of the root partition; only with `isRootDevice`. */
  readonly partuuid?: string | undefined;
  /** `Writeback` lets the guest flush; `Unsafe` ignores its flushes. */
  readonly cacheType?: (typeof CACHE_TYPES)[number] | undefined;
  readonly isReadOnly?: boolean | undefined;
  readonly pathOnHost?: string | undefined;
  readonly rateLimiter?: RateLimiter | undefined;
  readonly ioEngine?: (typeof IO_ENGINES)[number] | undefined;
  readonly socket?: string | undefined;
};

/** A change of a running VM's drive. Any path, even the same one, makes Firecracker read the file's size again. */
export type DrivePatch = Pick<Drive, "driveId" | "pathOnHost" | "rateLimiter">;

/** Returns the body of `PUT /drives/{id}`. Pure. */
export function drivePayload(drive: Drive): Payload {
  return payload({
    drive_id: drive.driveId,
    is_root_device: drive.isRootDevice,
    partuuid: drive.partuuid,
    cache_type: drive.cacheType,
    is_read_only: drive.isReadOnly,
    path_on_host: drive.pathOnHost,
    rate_limiter: rateLimiterPayload(drive.rateLimiter),
    io_engine: drive.ioEngine,
    socket: drive.socket,
  });
}

/** Returns the body of `PATCH /drives/{id}`. Pure. */
export function drivePatchPayload(patch: DrivePatch): Payload {
  return payload({
    drive_id: patch.driveId,
    path_on_host: patch.pathOnHost,
    rate_limiter: rateLimiterPayload(patch.rateLimiter),
  });
}

/** Checks the rules of one drive. That there is at most one root device is a rule of the whole configuration. */
export function checkDrive(problems: Problems, at: string, drive: Drive): void {
  problems.id(`${at}.driveId`, drive.driveId);
  problems.required(`${at}.isRootDevice`, drive.isRootDevice);
  problems.path(`${at}.pathOnHost`, drive.pathOnHost);
  problems.path(`${at}.socket`, drive.socket);
  problems.oneOf(`${at}.cacheType`, drive.cacheType, CACHE_TYPES);
  problems.oneOf(`${at}.ioEngine`, drive.ioEngine, IO_ENGINES);
  checkRateLimiter(problems, `${at}.rateLimiter`, drive.rateLimiter);
  const given = [drive.pathOnHost, drive.socket].filter((path) => path !== undefined);
  problems.check(given.length === 1, at, "given exactly one of pathOnHost and socket", given);
  if (drive.socket === undefined) return;
  for (const field of ["isReadOnly", "rateLimiter", "ioEngine"] as const) {
    problems.check(drive[field] === undefined, `${at}.${field}`, "absent with socket", drive[field]);
  }
}

/** Returns a request that is sent before the start. @throws HearthError `input.invalid` */
export function putDrive(drive: Drive): ApiRequest {
  checked((problems) => checkDrive(problems, "drive", drive));
  return apiRequest("PUT", `/drives/${drive.driveId}`, drivePayload(drive));
}

/** Returns a request that is sent after the start. @throws HearthError `input.invalid` */
export function patchDrive(patch: DrivePatch): ApiRequest {
  checked((problems) => {
    problems.id("drive.driveId", patch.driveId);
    problems.path("drive.pathOnHost", patch.pathOnHost);
    checkRateLimiter(problems, "drive.rateLimiter", patch.rateLimiter);
  });
  return apiRequest("PATCH", `/drives/${patch.driveId}`, drivePatchPayload(patch));
}
