import { isIPv4 } from "node:net";
import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";

const VERSIONS = ["V1", "V2"] as const;

/** Metadata that the guest reads by HTTP at a link-local address. V2 requires a token. */
export type MmdsConfig = {
  readonly version?: (typeof VERSIONS)[number] | undefined;
  /** Ids of the interfaces that answer. */
  readonly networkInterfaces: readonly string[];
  /** Default 169.254.169.254. */
  readonly ipv4Address?: string | undefined;
  /** True to answer as text whatever the guest accepts, like EC2; since 1.13. */
  readonly imdsCompat?: boolean | undefined;
};

/** Any JSON object. Its keys are the guest's and are sent unchanged. */
export type MmdsContents = Payload;

/** Returns the body of `PUT /mmds/config`. Pure. */
export function mmdsConfigPayload(config: MmdsConfig): Payload {
  return payload({
    version: config.version,
    network_interfaces: config.networkInterfaces,
    ipv4_address: config.ipv4Address,
    imds_compat: config.imdsCompat,
  });
}

/** Checks the rules of the section. That the interfaces exist is a rule of the whole configuration. */
export function checkMmdsConfig(problems: Problems, at: string, config: MmdsConfig): void {
  problems.oneOf(`${at}.version`, config.version, VERSIONS);
  const interfaces = config.networkInterfaces;
  if (problems.required(`${at}.networkInterfaces`, interfaces)) {
    problems.check(interfaces.length > 0, `${at}.networkInterfaces`, "at least one", interfaces);
    for (const [i, id] of interfaces.entries()) problems.id(`${at}.networkInterfaces[${i}]`, id);
  }
  const address = config.ipv4Address;
  // RFC 3927 reserves the first and the last 256 addresses of the block.
  const usable = address === undefined || (isIPv4(address) && /^169\.254\.(?!0\.|255\.)/.test(address));
  problems.check(usable, `${at}.ipv4Address`, "link-local, from 169.254.1.0 to 169.254.254.255", address);
}

/**
 * Returns a request that is sent before the start, after those of the interfaces. @throws HearthError `input.invalid`
 */
export function putMmdsConfig(config: MmdsConfig): ApiRequest {
  checked((problems) => checkMmdsConfig(problems, "mmds", config));
  return apiRequest("PUT", "/mmds/config", mmdsConfigPayload(config));
}

/**
 * Returns a request that replaces everything. Firecracker accepts 51200 bytes unless it was started with another limit.
 */
export function putMmds(contents: MmdsContents): ApiRequest {
  return apiRequest("PUT", "/mmds", contents);
}

/** Returns a JSON merge patch: null removes a key. Firecracker refuses it before the first `putMmds`. */
export function patchMmds(contents: MmdsContents): ApiRequest {
  return apiRequest("PATCH", "/mmds", contents);
}
