/**
 * Every request that the client can make, with what must come out of it: golden payloads, and the stock
 * that is held against Firecracker's own description of its API. A section is there in full and as short
 * as it may be.
 */
import { call, type FirecrackerCall, LIMITER, LIMITER_WIRE } from "#testing/firecracker-call.ts";
import { DISK_CALLS, MEMORY_CALLS, NETWORK_CALLS } from "#testing/firecracker-device-calls.ts";

const QUESTIONS = [
  call("describeInstance", [], "GET /"),
  call("getVersion", [], "GET /version"),
  call("getVmConfig", [], "GET /vm/config"),
  call("getMachineConfig", [], "GET /machine-config"),
  call("getBalloon", [], "GET /balloon"),
  call("getBalloonStatistics", [], "GET /balloon/statistics"),
  call("getBalloonHintingStatus", [], "GET /balloon/hinting/status"),
  call("getMemoryHotplug", [], "GET /hotplug/memory"),
  call("getMmds", [], "GET /mmds"),
];

const ACTIONS = [
  call("startInstance", [], "PUT /actions", { action_type: "InstanceStart" }),
  call("sendCtrlAltDel", [], "PUT /actions", { action_type: "SendCtrlAltDel" }),
  call("flushMetrics", [], "PUT /actions", { action_type: "FlushMetrics" }),
  call("pauseVm", [], "PATCH /vm", { state: "Paused" }),
  call("resumeVm", [], "PATCH /vm", { state: "Resumed" }),
];

const MACHINE = [
  call("putBootSource", [{ kernelImagePath: "/vmlinux" }], "PUT /boot-source", {
    kernel_image_path: "/vmlinux",
  }),
  call(
    "putBootSource",
    [{ kernelImagePath: "/vmlinux", bootArgs: "console=ttyS0", initrdPath: "/initrd" }],
    "PUT /boot-source",
    { kernel_image_path: "/vmlinux", boot_args: "console=ttyS0", initrd_path: "/initrd" },
  ),
  call("putMachineConfig", [{ vcpuCount: 1, memSizeMib: 128 }], "PUT /machine-config", {
    vcpu_count: 1,
    mem_size_mib: 128,
  }),
  call(
    "putMachineConfig",
    [
      {
        vcpuCount: 32,
        memSizeMib: 512,
        smt: true,
        cpuTemplate: "T2A",
        trackDirtyPages: true,
        hugePages: "2M",
      },
    ],
    "PUT /machine-config",
    {
      vcpu_count: 32,
      mem_size_mib: 512,
      smt: true,
      cpu_template: "T2A",
      track_dirty_pages: true,
      huge_pages: "2M",
    },
  ),
  call("patchMachineConfig", [{ memSizeMib: 256 }], "PATCH /machine-config", { mem_size_mib: 256 }),
  call("patchMachineConfig", [{ hugePages: "Transparent" }], "PATCH /machine-config", {
    huge_pages: "Transparent",
  }),
  call("putCpuConfig", [{}], "PUT /cpu-config", {}),
  call(
    "putCpuConfig",
    [
      {
        kvmCapabilities: ["!56", "121"],
        cpuidModifiers: [
          {
            leaf: "0x1",
            subleaf: "0x0",
            flags: 0,
            modifiers: [{ register: "eax", bitmap: "0bxxxx000000000011xx00011011110010" }],
          },
        ],
        msrModifiers: [{ addr: "0x10a", bitmap: "0b0000_0001" }],
        regModifiers: [{ addr: "0x603000000013c020", bitmap: "0bx1" }],
        vcpuFeatures: [{ index: 0, bitmap: "0b1100000" }],
      },
    ],
    "PUT /cpu-config",
    {
      kvm_capabilities: ["!56", "121"],
      cpuid_modifiers: [
        {
          leaf: "0x1",
          subleaf: "0x0",
          flags: 0,
          modifiers: [{ register: "eax", bitmap: "0bxxxx000000000011xx00011011110010" }],
        },
      ],
      msr_modifiers: [{ addr: "0x10a", bitmap: "0b0000_0001" }],
      reg_modifiers: [{ addr: "0x603000000013c020", bitmap: "0bx1" }],
      vcpu_features: [{ index: 0, bitmap: "0b1100000" }],
    },
  ),
];

const METADATA = [
  call("putMmdsConfig", [{ networkInterfaces: ["eth0"] }], "PUT /mmds/config", {
    network_interfaces: ["eth0"],
  }),
  call(
    "putMmdsConfig",
    [{ version: "V2", networkInterfaces: ["eth0"], ipv4Address: "169.254.170.2", imdsCompat: true }],
    "PUT /mmds/config",
    { version: "V2", network_interfaces: ["eth0"], ipv4_address: "169.254.170.2", imds_compat: true },
  ),
  // The guest's own keys: nothing is renamed, and null says what it says.
  call("putMmds", [{ userData: { some_key: [1, null, "x"] } }], "PUT /mmds", {
    userData: { some_key: [1, null, "x"] },
  }),
  call("patchMmds", [{ userData: null }], "PATCH /mmds", { userData: null }),
];

const OUTPUTS = [
  call("putLogger", [{}], "PUT /logger", {}),
  call(
    "putLogger",
    [{ logPath: "/log", level: "Warning", showLevel: true, showLogOrigin: false, module: "vmm::device" }],
    "PUT /logger",
    { log_path: "/log", level: "Warning", show_level: true, show_log_origin: false, module: "vmm::device" },
  ),
  call("putMetrics", [{ metricsPath: "/metrics" }], "PUT /metrics", { metrics_path: "/metrics" }),
  call(
    "putMetrics",
    [{ metricsPath: "/metrics", emitId: true, properties: { costCentre: "7" } }],
    "PUT /metrics",
    { metrics_path: "/metrics", emit_id: true, properties: { costCentre: "7" } },
  ),
  call("putSerial", [{}], "PUT /serial", {}),
  call("putSerial", [{ serialOutPath: "/tty", rateLimiter: LIMITER.bandwidth }], "PUT /serial", {
    serial_out_path: "/tty",
    rate_limiter: LIMITER_WIRE.bandwidth,
  }),
];

const SNAPSHOTS = [
  call("createSnapshot", [{ memFilePath: "/mem", snapshotPath: "/state" }], "PUT /snapshot/create", {
    mem_file_path: "/mem",
    snapshot_path: "/state",
  }),
  call(
    "createSnapshot",
    [{ memFilePath: "/mem", snapshotPath: "/state", snapshotType: "Diff" }],
    "PUT /snapshot/create",
    { mem_file_path: "/mem", snapshot_path: "/state", snapshot_type: "Diff" },
  ),
  call("loadSnapshot", [{ snapshotPath: "/state", memFilePath: "/mem" }], "PUT /snapshot/load", {
    snapshot_path: "/state",
    mem_file_path: "/mem",
  }),
  call(
    "loadSnapshot",
    [
      {
        snapshotPath: "/state",
        memBackend: { backendType: "Uffd", backendPath: "/uffd.sock" },
        trackDirtyPages: true,
        resumeVm: true,
        networkOverrides: [{ ifaceId: "eth0", hostDevName: "tap7" }],
        vsockOverride: { udsPath: "w.sock" },
        clockRealtime: true,
        hugePages: "2M",
      },
    ],
    "PUT /snapshot/load",
    {
      snapshot_path: "/state",
      mem_backend: { backend_type: "Uffd", backend_path: "/uffd.sock" },
      track_dirty_pages: true,
      resume_vm: true,
      network_overrides: [{ iface_id: "eth0", host_dev_name: "tap7" }],
      vsock_override: { uds_path: "w.sock" },
      clock_realtime: true,
      huge_pages: "2M",
    },
  ),
];

/** For a Firecracker that has everything. */
export const FIRECRACKER_CALLS: readonly FirecrackerCall[] = [
  ...QUESTIONS,
  ...ACTIONS,
  ...MACHINE,
  ...DISK_CALLS,
  ...NETWORK_CALLS,
  ...MEMORY_CALLS,
  ...METADATA,
  ...OUTPUTS,
  ...SNAPSHOTS,
];

/** For 1.12, which calls one field otherwise. */
export const FIRECRACKER_1_12_CALLS: readonly FirecrackerCall[] = [
  call(
    "loadSnapshot",
    [
      {
        snapshotPath: "/state",
        memBackend: { backendType: "File", backendPath: "/mem" },
        trackDirtyPages: true,
      },
    ],
    "PUT /snapshot/load",
    {
      snapshot_path: "/state",
      mem_backend: { backend_type: "File", backend_path: "/mem" },
      enable_diff_snapshots: true,
    },
  ),
];
