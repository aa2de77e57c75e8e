/** The requests about VMs; the schemas validate them, and are in the OpenAPI document and in the SDK's types. */
import { RESTART_POLICIES } from "#model/restart-policy.ts";
import { z } from "@hono/zod-openapi";
import { labelChangesSchema, labelsSchema } from "#api/label-schemas.ts";
import { filePath } from "#api/parsed.ts";
import {
  env,
  imageRef,
  isolationChoice,
  policyName,
  policySchema,
  privateNetworksSchema,
  publishedSchema,
  rateLimitSchema,
  vmName,
  word,
} from "#api/vm-fields.ts";
import { volumeMountSchema } from "#api/volume-schemas.ts";
import { LIMITS } from "#model/limits.ts";
import { INITS, NETWORKS } from "#model/vm-spec.ts";

const { cpusMax, memoryMinBytes, memoryMaxBytes, diskMinBytes, diskMaxBytes, lifetimeMinMs, lifetimeMaxMs } =
  LIMITS;

const bytes = (min: number, max: number) => z.int().min(min).max(max);
const lifetime = z.int().min(lifetimeMinMs).max(lifetimeMaxMs);
const bootArg = z.string().regex(/^[\x21-\x7e]+$/, "must be printable ASCII without spaces");

const RESTART = "When the VM is started again after it ended without a stop request";

export const createVmSchema = z
  .strictObject({
    name: vmName.optional().describe("Name of the VM, a DNS label (default: generated)"),
    labels: labelsSchema.optional().describe("Labels of the VM (default: none)"),
    image: imageRef
      .optional()
      .describe(
        "Image to create the VM from; required unless `snapshot` is given. Built first if it is not in the cache, which takes minutes",
      ),
    snapshot: z
      .string()
      .max(63)
      .optional()
      .describe(
        "Name or ID of the snapshot to create the VM from: its disk, and its memory if it has any. Not together with image, volumes, cpus, memoryBytes, diskBytes, diskLimit, netLimit, network, init, nested, driver, kernel or bootArgs",
      ),
    cold: z
      .boolean()
      .optional()
      .describe("Boot, even if a template or the snapshot's memory could be used (default: false)"),
    noWarm: z.boolean().optional().describe("Do not build a template after the start (default: false)"),
    idleTimeoutMs: lifetime
      .optional()
      .describe("The VM is suspended when it has been idle for this time (default: never)"),
    cpus: z
      .int()
      .min(1)
      .max(cpusMax)
      .optional()
      .describe("Virtual CPUs (default: 2; with `nested`, at most what the driver allows)"),
    memoryBytes: bytes(memoryMinBytes, memoryMaxBytes).optional().describe("Guest memory (default: 2 GiB)"),
    diskBytes: bytes(diskMinBytes, diskMaxBytes)
      .optional()
      .describe("Size of the writable disk, which is sparse (default: 8 GiB)"),
    volumes: z
      .array(volumeMountSchema)
      .max(LIMITS.volumesMax)
      .optional()
      .describe("Volumes to mount (default: none)"),
    diskLimit: rateLimitSchema.optional().openapi({
      description: "Limit of the writable disk and of each volume, separately (default: none)",
    }),
    netLimit: rateLimitSchema.optional().openapi({
      description: "Limit of each direction of the network, separately (default: none)",
    }),
    network: z
      .enum(NETWORKS)
      .optional()
      .describe(
        "none: no network; nat: a network namespace of its own, which reaches public addresses only (default: none)",
      ),
    policy: policySchema.optional().openapi({
      description: "What the guest may reach, with network nat (default: public addresses)",
    }),
    policyName: policyName
      .optional()
      .describe("Name of a policy: internet, open, none, or of config.toml. Not together with `policy`"),
    publish: publishedSchema
      .optional()
      .describe("Ports that are reached on the host, with network nat (default: none)"),
    networks: privateNetworksSchema
      .optional()
      .describe(
        "Private networks, with network nat: VMs on one reach each other as NAME.hearth (default: none)",
      ),
    init: z
      .enum(INITS)
      .optional()
      .describe("PID 1 in the guest: the agent of Hearth, or systemd (default: that of the image)"),
    nested: z
      .boolean()
      .optional()
      .describe("Nested virtualization: the guest gets /dev/kvm (default: false)"),
    driver: word.optional().describe("qemu or firecracker (default: chosen by hearthd at each start)"),
    kernel: word.optional().describe("Release of a cached kernel (default: the kernel of the image)"),
    bootArgs: z.array(bootArg).max(64).optional().describe("Arguments added to the kernel command line"),
    env: env
      .optional()
      .describe("Environment variables of every command in the VM, in addition to those of the image"),
    user: word
      .optional()
      .describe("User of commands in the VM: user name, or UID[:GID] (default: the user of the image)"),
    workdir: filePath
      .optional()
      .describe("Working directory of commands in the VM (default: that of the image)"),
    lifetimeMs: lifetime.optional().describe("The VM is stopped after this time (default: none)"),
    autoRemove: z.boolean().optional().describe("Remove the VM when it stops (default: false)"),
    restart: z
      .enum(RESTART_POLICIES)
      .optional()
      .describe(`${RESTART} (default: no). Not together with \`autoRemove\``),
    isolation: isolationChoice
      .optional()
      .openapi({ description: "Isolation of the VMM, at every start (default: all of it)" }),
  })
  .openapi("CreateVm", {
    description: "config.toml can change the defaults of cpus, memory, disk, network and driver.",
  });

export const forkSchema = z
  .strictObject({
    count: z.int().min(1).max(LIMITS.forksMax).optional().describe("Number of copies (default: 1)"),
    name: vmName
      .optional()
      .describe(
        "Name of one copy, or prefix of NAME-1, NAME-2, … (default: the VM's name as that prefix, also for one copy)",
      ),
    autoRemove: z.boolean().optional().describe("Remove each copy when it stops (default: false)"),
  })
  .openapi("ForkVm");

export const setVmSchema = z
  .strictObject({
    cpus: z.int().min(1).max(cpusMax).optional().describe("Virtual CPUs"),
    memoryBytes: bytes(memoryMinBytes, memoryMaxBytes)
      .optional()
      .describe("Guest memory; while the VM runs, at most its size at the start"),
    diskBytes: bytes(diskMinBytes, diskMaxBytes)
      .optional()
      .describe("Size of the writable disk. Can only grow"),
    diskLimit: rateLimitSchema.nullable().optional().openapi({
      description: "Limit of the writable disk and of each volume, separately; null removes the limit",
    }),
    netLimit: rateLimitSchema.nullable().optional().openapi({
      description: "Limit of each direction of the network, separately; null removes the limit",
    }),
    policy: policySchema.nullable().optional().openapi({
      description:
        "Network policy, with network nat; null: public addresses only. Applies to open connections too",
    }),
    policyName: policyName
      .optional()
      .describe("Name of a policy: internet, open, none, or of config.toml. Not together with `policy`"),
    labels: labelChangesSchema
      .optional()
      .describe("Labels to set. null removes a label; labels that are not named stay"),
    restart: z.enum(RESTART_POLICIES).optional().describe(RESTART),
  })
  .openapi("SetVm", { description: "Fields that are absent stay as they are." });

export const stopSchema = z
  .strictObject({
    timeoutMs: z
      .int()
      .min(0)
      .max(3_600_000)
      .optional()
      .describe("Time for the guest to shut down (default: 10000); then its VMM is killed"),
  })
  .openapi("StopVm");
export const killSchema = z
  .strictObject({
    signal: z.enum(["SIGKILL", "SIGTERM"]).optional().describe("Signal that ends the VMM (default: SIGKILL)"),
  })
  .openapi("KillVm");
