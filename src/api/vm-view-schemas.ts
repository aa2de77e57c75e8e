/** A VM as the API shows it. */
import { RESTART_POLICIES } from "#model/restart-policy.ts";
import { z } from "@hono/zod-openapi";
import { exitSchema, startStagesSchema } from "#api/life-schemas.ts";
import { isolationChoice, policySchema, publishedSchema, rateLimitSchema } from "#api/vm-fields.ts";
import { INITS, NETWORKS } from "#model/vm-spec.ts";
import { PAUSE_CAUSE_NAMES, VM_PHASES } from "#model/vm-state.ts";

export const isolationInForceSchema = z
  .object({
    jail: z.boolean().describe("True if the VMM runs in a jail: its own files and namespaces"),
    uid: z.int().optional().describe("UID of the VMM; absent if the VMM has that of hearthd"),
    pidNamespace: z.boolean().describe("True if the VMM has its own PID namespace"),
    networkNamespace: z.boolean().describe("True if the VMM is not in the network namespace of the host"),
    seccomp: z.boolean().describe("True if the system calls of the VMM are filtered"),
    cgroup: z.string().optional().describe("Directory of the cgroup; absent if the VMM has none of its own"),
    gaps: z
      .array(z.string())
      .describe(
        "Missing isolation: what was requested or is usual, and this host cannot provide, one sentence each",
      ),
  })
  .openapi("IsolationInForce");

const volumesOfVm = z.array(
  z.object({
    name: z.string().describe("Name of the volume"),
    path: z.string().describe("Mount point in the guest"),
    readOnly: z.boolean().describe("True if it is mounted read-only"),
  }),
);

const paths = z.object({
  disk: z.string().describe("The VM's writable disk"),
  console: z.string().describe("Log of the guest's console"),
  vmmLog: z.string().describe("Log of the VMM"),
  state: z.string().describe("Directory of the VM's disk and logs"),
  sockets: z.string().describe("Directory of the sockets of its VMM"),
});

const lastError = z.object({
  code: z.string().describe("Code of the error; docs/errors.md lists all codes"),
  message: z.string().describe("What failed and why, for people"),
  atMs: z.int().describe("Time of the error"),
});

export const vmSchema = z
  .object({
    id: z.string().describe("ID of the VM, which never changes"),
    owner: z.string().describe("Owner of the VM; always `local` while hearthd serves one user"),
    name: z.string().describe("Name of the VM"),
    labels: z.record(z.string(), z.string()).describe("Labels of the VM"),
    generation: z.int().describe("Counts the changes of the VM's settings; 1 for a new VM"),
    image: z.string().describe("Image that the VM was created from"),
    imageDigest: z
      .string()
      .describe("Build of that image; a newer build of the image does not change the VM"),
    phase: z.enum(VM_PHASES).describe("State of the VM"),
    recovering: z
      .boolean()
      .optional()
      .describe(
        "True while a restarted hearthd has not recovered the VM yet; `phase` is then the last one known",
      ),
    pauseCause: z
      .enum(PAUSE_CAUSE_NAMES)
      .optional()
      .describe(
        "Reason for a pause that was not requested. disk-full: the disk of the host is full. disk-failed: the host cannot read or write the disk of the VM. vmm: the VMM has stopped the vCPUs by itself",
      ),
    responsive: z.boolean().optional().describe("False while the VMM does not answer; absent if none runs"),
    cpus: z.int().describe("Virtual CPUs"),
    memoryBytes: z.int().describe("Guest memory"),
    diskBytes: z.int().describe("Size of the writable disk"),
    volumes: volumesOfVm.describe("Volumes of the VM"),
    diskLimit: rateLimitSchema.optional().openapi({
      description: "Limit of the writable disk and of each volume, separately",
    }),
    netLimit: rateLimitSchema.optional().openapi({
      description: "Limit of each direction of the network, separately",
    }),
    policy: policySchema
      .optional()
      .openapi({ description: "What the guest may reach, with network nat (absent: public addresses)" }),
    publish: publishedSchema.describe("Ports that are reached on the host"),
    networks: z.array(z.string()).describe("Private networks that the VM is on"),
    network: z
      .enum(NETWORKS)
      .describe("none: no network; nat: public addresses only; user: all that the host reaches"),
    address: z
      .ipv4()
      .optional()
      .describe("Address at which programs of the host reach the VM; absent unless it runs with network nat"),
    init: z.enum(INITS).describe("PID 1 in the guest: the agent of Hearth, or systemd"),
    nested: z.boolean().describe("True if the guest gets /dev/kvm"),
    driver: z.string().optional().describe("The driver that runs the VM, or would"),
    accel: z.enum(["kvm", "tcg"]).optional().describe("kvm, or tcg: emulated by QEMU. Absent if no VMM runs"),
    kernel: z.string().optional().describe("Release of its kernel, if it is not that of the image"),
    bootArgs: z.array(z.string()).describe("Arguments added to the kernel command line"),
    env: z
      .record(z.string(), z.string())
      .describe("Environment variables of every command in the VM, in addition to those of the image"),
    user: z.string().optional().describe("User of commands in the VM, if it is not that of the image"),
    workdir: z
      .string()
      .optional()
      .describe("Working directory of commands in the VM, if it is not that of the image"),
    lifetimeMs: z.int().optional().describe("The VM is stopped this long after each start"),
    idleTimeoutMs: z.int().optional().describe("The VM is suspended when it has been idle for this time"),
    autoRemove: z.boolean().describe("True if the VM is removed when it stops"),
    restart: z
      .enum(RESTART_POLICIES)
      .describe("When the VM is started again after it ended without a stop request"),
    desired: z.enum(["running", "stopped"]).describe("The last start or stop that was requested"),
    restoredFrom: z
      .string()
      .optional()
      .describe("ID of the snapshot or template whose memory the running VM was restored from"),
    isolation: isolationChoice
      .required()
      .openapi({ description: "Isolation that was requested, for every start" }),
    isolationInForce: isolationInForceSchema
      .optional()
      .openapi({ description: "Isolation that the running VMM really has; absent if none runs" }),
    caveats: z
      .array(z.string())
      .describe("Limitations of this VM on this host, missing isolation included, one sentence each"),
    guestWarnings: z
      .array(z.string())
      .describe("Parts of its identity that the guest could not set at its start, in the agent's words"),
    createdAtMs: z.int().describe("Time of the creation"),
    updatedAtMs: z.int().describe("Time of the last change of the row"),
    lastUsedAtMs: z.int().describe("Time of the last command, copy or start"),
    startedAtMs: z.int().optional().describe("Time of the last start; absent if no VMM runs"),
    startStages: startStagesSchema
      .optional()
      .describe("Stages of the last start with their durations; absent if no VMM runs"),
    pid: z.int().optional().describe("PID of the VMM on the host; absent if none runs"),
    paths: paths.describe("Paths of its files on the host"),
    exit: exitSchema.optional().describe("The end of its last VMM. Only in phase stopped"),
    lastError: lastError.optional().describe("The last error of the VM; it stays after a later success"),
  })
  .openapi("Vm");
