import type { CreateVm, Vm } from "#api/wire.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import { LOCAL_OWNER } from "#model/owner.ts";
import type { VmPhase } from "#model/vm-state.ts";

/** The `number`th VM of a fake hearthd, as its API shows it. */
export function fakeVm(name: string, phase: VmPhase, number: number, spec: Partial<CreateVm>): Vm {
  const runs = phase === "running" || phase === "paused";
  return {
    id: `vm-${"a".repeat(11)}${"abcdefghijklmnopqrstuvwxyz"[number % 26]}`,
    owner: LOCAL_OWNER,
    name,
    labels: spec.labels ?? {},
    generation: 1,
    image: spec.image ?? "debian:bookworm",
    imageDigest: `sha256:${"0".repeat(64)}`,
    phase,
    cpus: spec.cpus ?? 2,
    memoryBytes: spec.memoryBytes ?? 2 ** 31,
    diskBytes: spec.diskBytes ?? 2 ** 33,
    volumes: (spec.volumes ?? []).map(({ name: volume, path, readOnly = false }) => ({
      name: volume,
      path,
      readOnly,
    })),
    network: "none",
    init: "agent",
    nested: false,
    bootArgs: [],
    env: spec.env ?? {},
    isolation: { ...FULL_ISOLATION, ...spec.isolation },
    restart: "no",
    desired: "stopped",
    autoRemove: spec.autoRemove ?? false,
    idleTimeoutMs: spec.idleTimeoutMs,
    restoredFrom: runs ? spec.snapshot : undefined,
    weaknesses: runs ? ["The CPU is emulated: not a security boundary."] : [],
    guestWarnings: [],
    createdAtMs: 0,
    updatedAtMs: 0,
    lastUsedAtMs: 0,
    ...(runs && { startedAtMs: Date.now() - 3_700_000, driver: "qemu", accel: "tcg" as const, pid: 4711 }),
    paths: {
      disk: "/s/disk.raw",
      console: "/s/console.log",
      vmmLog: "/s/vmm.log",
      state: "/s",
      sockets: "/r",
    },
  };
}
