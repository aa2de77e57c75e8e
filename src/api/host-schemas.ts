/** The host on the wire: images, kernels, Firecracker, the checks of `hearth doctor`, and hearthd. */
import { z } from "@hono/zod-openapi";
import { INITS } from "#model/vm-spec.ts";

export const imageSchema = z
  .object({
    ref: z.string().describe("Name, such as debian:bookworm"),
    digest: z.string().describe("Digest of this build"),
    current: z.boolean().describe("False for a build that was replaced by a newer one of the same name"),
    kernel: z.string().describe("Release of its kernel"),
    inits: z.array(z.enum(INITS)).describe("Values of `init` that it supports, the default first"),
    sizeBytes: z.int().describe("Size of its files"),
    allocatedBytes: z.int().describe("Space that its files use on the host"),
    builtAtMs: z.int().describe("Time of the build"),
    files: z
      .array(
        z.object({
          name: z.string().describe("Name of the file"),
          sha256: z.string().describe("SHA-256 of the file, in hexadecimal digits"),
          sizeBytes: z.int().describe("Size of the file"),
        }),
      )
      .describe("Its files"),
    usedBy: z
      .array(z.string())
      .describe("VMs, and snapshots as `snapshot NAME`; internal VMs as one sentence"),
  })
  .openapi("Image");

export const kernelSchema = z
  .object({
    release: z.string().describe("Release, such as 6.1.0-56-cloud-amd64"),
    digest: z.string().describe("Digest of this kernel; two may have the same release"),
    sizeBytes: z.int().describe("Size of its files"),
    usedBy: z.array(z.string()).describe("Images"),
  })
  .openapi("Kernel");

export const firecrackerSchema = z
  .object({
    version: z.string().optional().describe("Version; absent if the program is refused"),
    source: z
      .enum(["config", "path", "installed"])
      .describe("Where it was found: in config.toml, in PATH, or installed by Hearth"),
    program: z.string().describe("Path of the program"),
    jailer: z.string().optional().describe("Path of its jailer"),
    ownerUid: z.int().optional().describe("UID of the owner of the program"),
    mode: z.int().optional().describe("Permission bits as a decimal number; 493 is 0755"),
    used: z.boolean().describe("True if new VMs use it"),
    refused: z
      .object({
        reason: z.string().describe("Why hearthd does not use it"),
        hint: z.string().describe("What the user can do"),
      })
      .optional()
      .describe("Set if hearthd refuses to use it"),
  })
  .openapi("Firecracker");

export const installationSchema = z
  .object({
    version: z.string().describe("Version of Firecracker"),
    program: z.string().describe("Path of the program"),
    jailer: z.string().describe("Path of its jailer"),
    fresh: z.boolean().describe("True if this request installed it"),
  })
  .openapi("Installation");

export const doctorSchema = z
  .object({
    ok: z.boolean().describe("True if no check failed"),
    checks: z
      .array(
        z.object({
          name: z.string().describe("Name of the check"),
          verdict: z.enum(["pass", "warn", "fail"]).describe("Result of the check"),
          found: z.string().describe("What was found on this host"),
          fix: z.string().optional().describe("What the user can do about it"),
        }),
      )
      .describe("All checks"),
  })
  .openapi("Doctor");

export const daemonSchema = z
  .object({
    version: z.string().describe("Version of hearthd"),
    pid: z.int().describe("PID of hearthd"),
    startedAtMs: z.int().describe("Start of hearthd"),
    rssBytes: z.int().describe("Resident memory of hearthd"),
    vms: z.int().describe("Number of VMs, internal ones included"),
    running: z.int().describe("Number of VMs with a VMM, paused ones too"),
    dirs: z
      .object({
        config: z.string().describe("Directory of config.toml"),
        state: z.string().describe("Directory of the database and of the files of VMs"),
        cache: z.string().describe("Directory of images and kernels, which can be built again"),
        run: z.string().describe("Directory of sockets and locks"),
      })
      .describe("Directories of hearthd"),
  })
  .openapi("Daemon");
