/** The schemas of the API, which are used for validation, the OpenAPI document and the SDK's types. */
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

/** Counts the bytes of all variables, each with its `=` and its NUL. */
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
      `takes ${bytesOf(input as Record<string, string>)} bytes; the limit is ${LIMITS.variablesMaxBytes}`,
  });
const bootArg = z.string().regex(/^[\x21-\x7e]+$/, "must be printable ASCII without spaces");
const word = z
  .string()
  .max(255)
  .regex(/^[^\0-\x1f]+$/, "must not contain control characters");
export const vmName = parsed(parseVmName);
export const imageRef = parsed(parseImageRef);

/** Each is true by default. */
const isolationChoice = z
  .strictObject({
    jail: z.boolean().optional(),
    pidNamespace: z.boolean().optional(),
    cgroup: z.boolean().optional(),
    seccomp: z.boolean().optional(),
  })
  .openapi("IsolationChoice");

/** The isolation of the running VMM. */
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
/** Token buckets. A burst is at least one second's worth. */
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
    /** Required unless `snapshot` is given. */
    image: imageRef.optional(),
    /** The snapshot that the VM is created from: its disk, and its memory if it has any. */
    snapshot: z.string().max(63).optional(),
    /** Boots, even if a template or the snapshot's memory could be used. */
    cold: z.boolean().optional(),
    /** Creates no template after the start. */
    noWarm: z.boolean().optional(),
    /** Suspends the VM when it has been idle for this time. */
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
    /** Restarts the VM when its VMM has ended. Not with `autoRemove`. */
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
    /** Null removes the limit. */
    diskLimit: rateLimitSchema.nullable().optional(),
    netLimit: rateLimitSchema.nullable().optional(),
    labels: labelChangesSchema.optional(),
    restart: z.enum(RESTART_POLICIES).optional(),
  })
  .openapi("SetVm");

export const vmSchema = z
  .object({
    id: z.string(),
    /** The principal that owns the VM; `local` as long as hearthd serves one user. */
    owner: z.string(),
    name: z.string(),
    labels: z.record(z.string(), z.string()),
    /** Counts the changes of the VM's settings; 1 for a new VM. */
    generation: z.int(),
    image: z.string(),
    imageDigest: z.string(),
    phase: z.enum(VM_PHASES),
    /** True until a hearthd that was just started has recovered the VM. Its phase is that of before. */
    recovering: z.boolean().optional(),
    /** The reason for a pause that the user did not ask for. */
    pauseCause: z.enum(PAUSE_CAUSE_NAMES).optional(),
    /** False while the VMM does not answer; undefined if none runs. */
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
    /** The snapshot or template that it was restored from, while it runs. */
    restoredFrom: z.string().optional(),
    /** The isolation that was asked for, at every start. */
    isolation: isolationChoice.required(),
    /** Undefined if no VMM runs. */
    isolationInForce: isolationInForceSchema.optional(),
    /** The limitations of this VM on this host, in sentences. */
    caveats: z.array(z.string()),
    /** The parts of its identity that the guest could not set at its start, in the agent's words. */
    guestWarnings: z.array(z.string()),
    createdAtMs: z.int(),
    updatedAtMs: z.int(),
    lastUsedAtMs: z.int(),
    startedAtMs: z.int().optional(),
    /** The stages of its start with their durations, while a VMM runs. */
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

/** The metrics of a VMM, as the driver reports them; see docs/stats.md. */
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
    /** Percent of one host CPU since the last reading or the VMM's start: 200 is two whole CPUs. */
    cpuPercent: z.number(),
    rssBytes: z.int(),
    vszBytes: z.int(),
    /** The memory that the guest has now; undefined if it is unknown. */
    memoryBytes: z.int().optional(),
    /** The blocks that the VM's writable disk uses on the host, and its size. */
    diskAllocatedBytes: z.int(),
    diskBytes: z.int(),
    /** The VMM's own counters; undefined if it has none or does not answer. */
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
    /** False for a build that was replaced by a newer one of the same name. */
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
    /** Missing if the binary is refused. */
    version: z.string().optional(),
    source: z.enum(["config", "path", "installed"]),
    program: z.string(),
    jailer: z.string().optional(),
    ownerUid: z.int().optional(),
    /** The permission bits; 493 is 0755. */
    mode: z.int().optional(),
    /** True if new VMs use it. */
    used: z.boolean(),
    refused: z.object({ reason: z.string(), hint: z.string() }).optional(),
  })
  .openapi("Firecracker");

export const installationSchema = z
  .object({
    version: z.string(),
    program: z.string(),
    jailer: z.string(),
    /** False if it was installed already. */
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
