/** What goes over the wire: written once, for validation, the OpenAPI document and the SDK's types. */
import { RESTART_POLICIES } from "#model/restart-policy.ts";
import { z } from "@hono/zod-openapi";
import { labelChangesSchema, labelsSchema } from "#api/label-schemas.ts";
import { exitSchema, startStagesSchema } from "#api/life-schemas.ts";
import { filePath, parsed } from "#api/parsed.ts";
import { volumeMountSchema } from "#api/volume-schemas.ts";
import { toError } from "#base/error.ts";
import { checkEnvName } from "#model/exec-spec.ts";
import { parseVmName } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { LIMITS } from "#model/limits.ts";
import { checkRateLimit } from "#model/rate-limit.ts";
import { INITS, NETWORKS } from "#model/vm-spec.ts";
import { PAUSE_CAUSE_NAMES, VM_PHASES } from "#model/vm-state.ts";

const { cpusMax, memoryMinBytes, memoryMaxBytes, diskMinBytes, diskMaxBytes, lifetimeMinMs, lifetimeMaxMs } =
  LIMITS;

/** Counts the bytes of all variables, each with its `=` and its end. */
function bytesOf(env: Readonly<Record<string, string>>): number {
  return Object.entries(env).reduce(
    (sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(value) + 2,
    0,
  );
}

const bytes = (min: number, max: number) => z.int().min(min).max(max);
const env = z
  .record(parsed(checkEnvName), z.string().max(LIMITS.argumentMaxBytes))
  .refine((all) => bytesOf(all) <= LIMITS.variablesMaxBytes, {
    error: ({ input }) =>
      `takes ${bytesOf(input as Record<string, string>)} bytes in all; at most ${LIMITS.variablesMaxBytes}`,
  });
const bootArg = z.string().regex(/^[\x21-\x7e]+$/, "must be printable ASCII without blanks");
const word = z
  .string()
  .max(255)
  .regex(/^[^\0-\x1f]+$/, "must not hold control characters");
export const vmName = parsed(parseVmName);
export const imageRef = parsed(parseImageRef);

/** True where it is left out. */
const isolationChoice = z
  .strictObject({
    jail: z.boolean().optional(),
    pidNamespace: z.boolean().optional(),
    cgroup: z.boolean().optional(),
    seccomp: z.boolean().optional(),
  })
  .openapi("IsolationChoice");

/** What the VMM that runs really has. */
const isolationInForceSchema = z
  .object({
    jail: z.boolean(),
    uid: z.int().optional(),
    pidNamespace: z.boolean(),
    networkNamespace: z.boolean(),
    seccomp: z.boolean(),
    cgroup: z.string().optional(),
    gaps: z.array(z.string()),
  })
  .openapi("IsolationInForce");

const bandwidth = z.int().min(LIMITS.bandwidthMinBytesPerS).max(LIMITS.bandwidthMaxBytesPerS);
const operations = z.int().min(LIMITS.opsMinPerS).max(LIMITS.opsMaxPerS);
/** Token buckets; a burst is at least one second's worth. */
const rateLimitSchema = z
  .strictObject({
    bandwidthBytesPerS: bandwidth.optional(),
    bandwidthBurstBytes: bandwidth.optional(),
    opsPerS: operations.optional(),
    opsBurst: operations.optional(),
  })
  .superRefine((limit, context) => {
    try {
      checkRateLimit("limit", limit);
    } catch (error) {
      context.addIssue({ code: "custom", message: toError(error).message });
    }
  })
  .openapi("RateLimit");

export const createVmSchema = z
  .strictObject({
    name: vmName.optional(),
    labels: labelsSchema.optional(),
    /** Left out with `snapshot`. */
    image: imageRef.optional(),
    /** What the VM begins as: its disk, and its memory if that was saved. */
    snapshot: z.string().max(63).optional(),
    /** Boots, where it could go on from what was saved. */
    cold: z.boolean().optional(),
    /** No warm template is made because of it. */
    noWarm: z.boolean().optional(),
    /** Suspended when it has done nothing for so long. */
    idleTimeoutMs: z.int().min(lifetimeMinMs).max(lifetimeMaxMs).optional(),
    cpus: z.int().min(1).max(cpusMax).optional(),
    memoryBytes: bytes(memoryMinBytes, memoryMaxBytes).optional(),
    diskBytes: bytes(diskMinBytes, diskMaxBytes).optional(),
    volumes: z.array(volumeMountSchema).max(LIMITS.volumesMax).optional(),
    diskLimit: rateLimitSchema.optional(),
    netLimit: rateLimitSchema.optional(),
    network: z.enum(NETWORKS).optional(),
    init: z.enum(INITS).optional(),
    nested: z.boolean().optional(),
    driver: word.optional(),
    kernel: word.optional(),
    bootArgs: z.array(bootArg).max(64).optional(),
    env: env.optional(),
    user: word.optional(),
    workdir: filePath.optional(),
    lifetimeMs: z.int().min(lifetimeMinMs).max(lifetimeMaxMs).optional(),
    autoRemove: z.boolean().optional(),
    /** When it is started again though nobody asked. Not with `autoRemove`. */
    restart: z.enum(RESTART_POLICIES).optional(),
    isolation: isolationChoice.optional(),
  })
  .openapi("CreateVm");

export const forkSchema = z
  .strictObject({
    count: z.int().min(1).max(LIMITS.forksMax).optional(),
    name: vmName.optional(),
    autoRemove: z.boolean().optional(),
  })
  .openapi("ForkVm");

export const setVmSchema = z
  .strictObject({
    cpus: z.int().min(1).max(cpusMax).optional(),
    memoryBytes: bytes(memoryMinBytes, memoryMaxBytes).optional(),
    diskBytes: bytes(diskMinBytes, diskMaxBytes).optional(),
    /** Null takes the limit away. */
    diskLimit: rateLimitSchema.nullable().optional(),
    netLimit: rateLimitSchema.nullable().optional(),
    labels: labelChangesSchema.optional(),
    restart: z.enum(RESTART_POLICIES).optional(),
  })
  .openapi("SetVm");

export const vmSchema = z
  .object({
    id: z.string(),
    /** The owner; `local` as long as hearthd serves one user. */
    owner: z.string(),
    name: z.string(),
    labels: z.record(z.string(), z.string()),
    /** Counts the changes of what was asked for; 1 for a new VM. */
    generation: z.int(),
    image: z.string(),
    imageDigest: z.string(),
    phase: z.enum(VM_PHASES),
    /** True until hearthd, which was just started, has looked at the VM: its phase is that of before. */
    recovering: z.boolean().optional(),
    /** Why it is paused, where nobody has asked for it. */
    pauseCause: z.enum(PAUSE_CAUSE_NAMES).optional(),
    /** False while the VMM does not answer; undefined when none runs. */
    responsive: z.boolean().optional(),
    cpus: z.int(),
    memoryBytes: z.int(),
    diskBytes: z.int(),
    volumes: z.array(z.object({ name: z.string(), path: z.string(), readOnly: z.boolean() })),
    diskLimit: rateLimitSchema.optional(),
    netLimit: rateLimitSchema.optional(),
    network: z.enum(NETWORKS),
    init: z.enum(INITS),
    nested: z.boolean(),
    driver: z.string().optional(),
    accel: z.enum(["kvm", "tcg"]).optional(),
    kernel: z.string().optional(),
    bootArgs: z.array(z.string()),
    env: z.record(z.string(), z.string()),
    user: z.string().optional(),
    workdir: z.string().optional(),
    lifetimeMs: z.int().optional(),
    idleTimeoutMs: z.int().optional(),
    autoRemove: z.boolean(),
    restart: z.enum(RESTART_POLICIES),
    desired: z.enum(["running", "stopped"]),
    /** What it was restored from, while it runs. */
    restoredFrom: z.string().optional(),
    /** What was chosen; the same at every start. */
    isolation: isolationChoice.required(),
    /** Undefined when no VMM runs. */
    isolationInForce: isolationInForceSchema.optional(),
    /** What this host does not guarantee for this VM, in sentences. */
    caveats: z.array(z.string()),
    /** Parts of its identity that the guest could not set when it started, in its own words. */
    guestWarnings: z.array(z.string()),
    createdAtMs: z.int(),
    updatedAtMs: z.int(),
    lastUsedAtMs: z.int(),
    startedAtMs: z.int().optional(),
    /** How long each stage of its start took, while a VMM runs. */
    startStages: startStagesSchema.optional(),
    pid: z.int().optional(),
    paths: z.object({
      disk: z.string(),
      console: z.string(),
      vmmLog: z.string(),
      state: z.string(),
      sockets: z.string(),
    }),
    exit: exitSchema.optional(),
    lastError: z.object({ code: z.string(), message: z.string(), atMs: z.int() }).optional(),
  })
  .openapi("Vm");

/** As `VmmMetrics` of the drivers says; see docs/stats.md. */
const vmmMetricsSchema = z
  .object({
    vcpuExits: z.int(),
    blockReadBytes: z.int(),
    blockWriteBytes: z.int(),
    blockReadOps: z.int(),
    blockWriteOps: z.int(),
    blockThrottledCount: z.int(),
    vsockToGuestBytes: z.int(),
    vsockFromGuestBytes: z.int(),
    missedLogCount: z.int(),
    missedMetricsCount: z.int(),
    seccompFaultCount: z.int(),
  })
  .openapi("VmmMetrics");

export const vmStatsSchema = z
  .object({
    id: z.string(),
    name: z.string(),
    phase: z.enum(VM_PHASES),
    collectedAtMs: z.int(),
    /** Of one host CPU, since the last reading or the VMM's start: 200 is two whole CPUs. */
    cpuPercent: z.number(),
    rssBytes: z.int(),
    vszBytes: z.int(),
    /** What the guest has of its memory now; undefined where nobody can tell. */
    memoryBytes: z.int().optional(),
    /** Blocks that the VM's writable disk takes on the host, and what it could take. */
    diskAllocatedBytes: z.int(),
    diskBytes: z.int(),
    /** What the VMM has counted of its own work; undefined where it counts nothing, or does not answer. */
    vmm: vmmMetricsSchema.optional(),
  })
  .openapi("VmStats");

export const stopSchema = z
  .strictObject({ timeoutMs: z.int().min(0).max(3_600_000).optional() })
  .openapi("StopVm");
export const killSchema = z
  .strictObject({ signal: z.enum(["SIGKILL", "SIGTERM"]).optional() })
  .openapi("KillVm");

export const ttySizeSchema = z.strictObject({
  rows: z.int().min(1).max(10_000),
  cols: z.int().min(1).max(10_000),
});

export const execSchema = z
  .strictObject({
    argv: z.array(z.string()),
    env: env.optional(),
    user: word.optional(),
    workdir: filePath.optional(),
    tty: ttySizeSchema.extend({ term: word }).optional(),
    stdin: z.boolean().optional(),
    detach: z.boolean().optional(),
    timeoutMs: z.int().min(1).max(lifetimeMaxMs).optional(),
  })
  .openapi("Exec");

export const runSchema = z.strictObject({ vm: createVmSchema, exec: execSchema }).openapi("Run");

export const errorSchema = z
  .object({
    error: z.object({
      code: z.string(),
      message: z.string(),
      hint: z.string().optional(),
      operation: z.string().optional(),
    }),
  })
  .openapi("Error");

export const imageSchema = z
  .object({
    ref: z.string(),
    digest: z.string(),
    /** False for a build that a newer one of the same name has replaced. */
    current: z.boolean(),
    kernel: z.string(),
    inits: z.array(z.enum(INITS)),
    sizeBytes: z.int(),
    allocatedBytes: z.int(),
    builtAtMs: z.int(),
    files: z.array(z.object({ name: z.string(), sha256: z.string(), sizeBytes: z.int() })),
    usedBy: z.array(z.string()),
  })
  .openapi("Image");

export const kernelSchema = z
  .object({
    release: z.string(),
    digest: z.string(),
    sizeBytes: z.int(),
    usedBy: z.array(z.string()),
  })
  .openapi("Kernel");

export const firecrackerSchema = z
  .object({
    /** Absent when it is refused. */
    version: z.string().optional(),
    source: z.enum(["config", "path", "installed"]),
    program: z.string(),
    jailer: z.string().optional(),
    ownerUid: z.int().optional(),
    /** Permission bits; 493 is 0755. */
    mode: z.int().optional(),
    /** Whether it is the one for new VMs. */
    used: z.boolean(),
    refused: z.object({ reason: z.string(), hint: z.string() }).optional(),
  })
  .openapi("Firecracker");

export const installationSchema = z
  .object({
    version: z.string(),
    program: z.string(),
    jailer: z.string(),
    /** False when it was there already. */
    fresh: z.boolean(),
  })
  .openapi("Installation");

export const doctorSchema = z
  .object({
    ok: z.boolean(),
    checks: z.array(
      z.object({
        name: z.string(),
        verdict: z.enum(["pass", "warn", "fail"]),
        found: z.string(),
        fix: z.string().optional(),
      }),
    ),
  })
  .openapi("Doctor");

export const daemonSchema = z
  .object({
    version: z.string(),
    pid: z.int(),
    startedAtMs: z.int(),
    rssBytes: z.int(),
    vms: z.int(),
    running: z.int(),
    dirs: z.object({ config: z.string(), state: z.string(), cache: z.string(), run: z.string() }),
  })
  .openapi("Daemon");
