/** The part of FIRECRACKER_CALLS that is about devices and memory. */
import { call, LIMITER, LIMITER_WIRE } from "#testing/firecracker-call.ts";

export const DISK_CALLS = [
  call("putDrive", [{ driveId: "data", isRootDevice: false, pathOnHost: "/data.img" }], "PUT /drives/data", {
    drive_id: "data",
    is_root_device: false,
    path_on_host: "/data.img",
  }),
  call(
    "putDrive",
    [
      {
        driveId: "rootfs",
        isRootDevice: true,
        partuuid: "0eaa91a0-01",
        cacheType: "Writeback",
        isReadOnly: false,
        pathOnHost: "/rootfs.img",
        rateLimiter: LIMITER,
        ioEngine: "Async",
      },
    ],
    "PUT /drives/rootfs",
    {
      drive_id: "rootfs",
      is_root_device: true,
      partuuid: "0eaa91a0-01",
      cache_type: "Writeback",
      is_read_only: false,
      path_on_host: "/rootfs.img",
      rate_limiter: LIMITER_WIRE,
      io_engine: "Async",
    },
  ),
  call("putDrive", [{ driveId: "vu", isRootDevice: false, socket: "/vu.sock" }], "PUT /drives/vu", {
    drive_id: "vu",
    is_root_device: false,
    socket: "/vu.sock",
  }),
  call("patchDrive", [{ driveId: "data", pathOnHost: "/other.img" }], "PATCH /drives/data", {
    drive_id: "data",
    path_on_host: "/other.img",
  }),
  // A bucket of size 0 takes a limit away, and the other one stays as it is.
  call(
    "patchDrive",
    [{ driveId: "data", rateLimiter: { ops: { size: 0, refillTime: 0 } } }],
    "PATCH /drives/data",
    { drive_id: "data", rate_limiter: { ops: { size: 0, refill_time: 0 } } },
  ),
  call("putPmem", [{ id: "p0", pathOnHost: "/p.img" }], "PUT /pmem/p0", {
    id: "p0",
    path_on_host: "/p.img",
  }),
  call(
    "putPmem",
    [{ id: "p0", pathOnHost: "/p.img", rootDevice: true, readOnly: true, rateLimiter: LIMITER }],
    "PUT /pmem/p0",
    { id: "p0", path_on_host: "/p.img", root_device: true, read_only: true, rate_limiter: LIMITER_WIRE },
  ),
  call("patchPmem", [{ id: "p0", rateLimiter: LIMITER }], "PATCH /pmem/p0", {
    id: "p0",
    rate_limiter: LIMITER_WIRE,
  }),
];

export const NETWORK_CALLS = [
  call("putNetworkInterface", [{ ifaceId: "eth0", hostDevName: "tap0" }], "PUT /network-interfaces/eth0", {
    iface_id: "eth0",
    host_dev_name: "tap0",
  }),
  call(
    "putNetworkInterface",
    [
      {
        ifaceId: "eth0",
        hostDevName: "tap0",
        guestMac: "06:00:ac:10:00:02",
        mtu: 1_420,
        rxRateLimiter: LIMITER,
        txRateLimiter: LIMITER,
      },
    ],
    "PUT /network-interfaces/eth0",
    {
      iface_id: "eth0",
      host_dev_name: "tap0",
      guest_mac: "06:00:ac:10:00:02",
      mtu: 1_420,
      rx_rate_limiter: LIMITER_WIRE,
      tx_rate_limiter: LIMITER_WIRE,
    },
  ),
  call(
    "patchNetworkInterface",
    [{ ifaceId: "eth0", rxRateLimiter: LIMITER, txRateLimiter: LIMITER }],
    "PATCH /network-interfaces/eth0",
    { iface_id: "eth0", rx_rate_limiter: LIMITER_WIRE, tx_rate_limiter: LIMITER_WIRE },
  ),
  call("putVsock", [{ guestCid: 3, udsPath: "v.sock" }], "PUT /vsock", {
    guest_cid: 3,
    uds_path: "v.sock",
  }),
  call("putVsock", [{ guestCid: 4_294_967_295, udsPath: "v.sock", vsockId: "v" }], "PUT /vsock", {
    guest_cid: 4_294_967_295,
    uds_path: "v.sock",
    vsock_id: "v",
  }),
  call("putEntropy", [{}], "PUT /entropy", {}),
  call("putEntropy", [{ rateLimiter: LIMITER }], "PUT /entropy", { rate_limiter: LIMITER_WIRE }),
];

export const MEMORY_CALLS = [
  call("putBalloon", [{ amountMib: 0, deflateOnOom: false }], "PUT /balloon", {
    amount_mib: 0,
    deflate_on_oom: false,
  }),
  call(
    "putBalloon",
    [
      {
        amountMib: 64,
        deflateOnOom: true,
        statsPollingIntervalS: 1,
        freePageHinting: true,
        freePageReporting: true,
      },
    ],
    "PUT /balloon",
    {
      amount_mib: 64,
      deflate_on_oom: true,
      stats_polling_interval_s: 1,
      free_page_hinting: true,
      free_page_reporting: true,
    },
  ),
  call("patchBalloon", [{ amountMib: 32 }], "PATCH /balloon", { amount_mib: 32 }),
  call("patchBalloonStatistics", [{ statsPollingIntervalS: 5 }], "PATCH /balloon/statistics", {
    stats_polling_interval_s: 5,
  }),
  call("startBalloonHinting", [{}], "PATCH /balloon/hinting/start", {}),
  call("startBalloonHinting", [{ acknowledgeOnStop: true }], "PATCH /balloon/hinting/start", {
    acknowledge_on_stop: true,
  }),
  call("stopBalloonHinting", [], "PATCH /balloon/hinting/stop"),
  call("putMemoryHotplug", [{ totalSizeMib: 1_024 }], "PUT /hotplug/memory", { total_size_mib: 1_024 }),
  call(
    "putMemoryHotplug",
    [{ totalSizeMib: 1_024, slotSizeMib: 256, blockSizeMib: 4 }],
    "PUT /hotplug/memory",
    { total_size_mib: 1_024, slot_size_mib: 256, block_size_mib: 4 },
  ),
  call("patchMemoryHotplug", [{ requestedSizeMib: 512 }], "PATCH /hotplug/memory", {
    requested_size_mib: 512,
  }),
];
