import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";

/** The limits in Firecracker's docs/memory-hotplug.md. */
const SLOT_MIN_MIB = 128;
const BLOCK_MIN_MIB = 2;
const SIZE_MAX_MIB = 0xffff_ffff;

/** Memory besides the boot memory, plugged and unplugged while the VM runs (virtio-mem). Since 1.14. */
export type MemoryHotplug = {
  /** A multiple of the slot size. */
  readonly totalSizeMib: number;
  /** The unit in which the host removes memory; a multiple of the block size. Default 128. */
  readonly slotSizeMib?: number | undefined;
  /** The unit in which the guest plugs memory; a power of two. Default 2. */
  readonly blockSizeMib?: number | undefined;
};

/** The new size. The guest takes its time: `plugged` follows `requested`. */
export type MemoryHotplugPatch = { readonly requestedSizeMib: number };

export type MemoryHotplugStatus = {
  readonly totalSizeMib?: number | undefined;
  readonly slotSizeMib?: number | undefined;
  readonly blockSizeMib?: number | undefined;
  readonly pluggedSizeMib?: number | undefined;
  readonly requestedSizeMib?: number | undefined;
};

/** Returns the body of `PUT /hotplug/memory`. Pure. */
export function memoryHotplugPayload(hotplug: MemoryHotplug): Payload {
  return payload({
    total_size_mib: hotplug.totalSizeMib,
    slot_size_mib: hotplug.slotSizeMib,
    block_size_mib: hotplug.blockSizeMib,
  });
}

/** Checks the rules of the three sizes; a missing one has its default. */
export function checkMemoryHotplug(problems: Problems, at: string, hotplug: MemoryHotplug): void {
  const { totalSizeMib, slotSizeMib, blockSizeMib } = hotplug;
  const slot = slotSizeMib ?? SLOT_MIN_MIB;
  const block = blockSizeMib ?? BLOCK_MIN_MIB;
  problems.integer(`${at}.blockSizeMib`, blockSizeMib, BLOCK_MIN_MIB, SIZE_MAX_MIB);
  problems.check(Number.isInteger(Math.log2(block)), `${at}.blockSizeMib`, "a power of two", block);
  problems.integer(`${at}.slotSizeMib`, slotSizeMib, SLOT_MIN_MIB, SIZE_MAX_MIB);
  problems.check(slot % block === 0, `${at}.slotSizeMib`, "a multiple of blockSizeMib", slot);
  if (!problems.required(`${at}.totalSizeMib`, totalSizeMib)) return;
  problems.integer(`${at}.totalSizeMib`, totalSizeMib, 1, SIZE_MAX_MIB);
  problems.check(totalSizeMib % slot === 0, `${at}.totalSizeMib`, "a multiple of slotSizeMib", totalSizeMib);
}

/** Returns a request that is sent before the start. @throws HearthError `input.invalid` */
export function putMemoryHotplug(hotplug: MemoryHotplug): ApiRequest {
  checked((problems) => checkMemoryHotplug(problems, "memoryHotplug", hotplug));
  return apiRequest("PUT", "/hotplug/memory", memoryHotplugPayload(hotplug));
}

/** Returns a request that is sent after the start. @throws HearthError `input.invalid` */
export function patchMemoryHotplug({ requestedSizeMib }: MemoryHotplugPatch): ApiRequest {
  checked((problems) => {
    const field = "memoryHotplug.requestedSizeMib";
    if (problems.required(field, requestedSizeMib))
      problems.integer(field, requestedSizeMib, 0, SIZE_MAX_MIB);
  });
  return apiRequest("PATCH", "/hotplug/memory", payload({ requested_size_mib: requestedSizeMib }));
}
