import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";

/** 0 to 2 are the hypervisor, the guest itself and the host. */
const GUEST_CID_MIN = 3;
const GUEST_CID_MAX = 0xffff_ffff;
/** `sun_path` has 108 bytes with the final NUL. */
const UDS_PATH_MAX_BYTES = 107;

/**
 * A vsock device. Host to guest: connect to `udsPath` and write `CONNECT <port>`. Guest to host: Firecracker connects
 * to `<udsPath>_<port>`, where the host listens.
 */
export type Vsock = {
  readonly guestCid: number;
  /** The path as the VMM sees it: in a jail, a path inside. */
  readonly udsPath: string;
  /** Has no effect; deprecated by Firecracker. */
  readonly vsockId?: string | undefined;
};

/** Returns the body of `PUT /vsock`. Pure. */
export function vsockPayload(vsock: Vsock): Payload {
  return payload({ guest_cid: vsock.guestCid, uds_path: vsock.udsPath, vsock_id: vsock.vsockId });
}

/** Checks the rules of a path that becomes a socket. */
export function checkUdsPath(problems: Problems, field: string, path: string): void {
  if (!problems.required(field, path)) return;
  problems.path(field, path);
  const isShort = Buffer.byteLength(path) <= UDS_PATH_MAX_BYTES;
  problems.check(isShort, field, `at most ${UDS_PATH_MAX_BYTES} bytes`, path);
}

/** Checks the guest's number and the socket's path. */
export function checkVsock(problems: Problems, at: string, vsock: Vsock): void {
  if (problems.required(`${at}.guestCid`, vsock.guestCid))
    problems.integer(`${at}.guestCid`, vsock.guestCid, GUEST_CID_MIN, GUEST_CID_MAX);
  checkUdsPath(problems, `${at}.udsPath`, vsock.udsPath);
}

/** Returns a request that is sent before the start. @throws HearthError `input.invalid` */
export function putVsock(vsock: Vsock): ApiRequest {
  checked((problems) => checkVsock(problems, "vsock", vsock));
  return apiRequest("PUT", "/vsock", vsockPayload(vsock));
}
