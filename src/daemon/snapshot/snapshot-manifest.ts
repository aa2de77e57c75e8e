/**
 * The manifest of a snapshot's archive, which is its first member. It has all of the record that is valid on another
 * host. It may come from anywhere, so every field of it is checked.
 */
import { z } from "zod";
import { createVmSchema } from "#api/vm-schemas.ts";
import { HearthError, toError } from "#base/error.ts";
import { GIB, MIB } from "#base/sizes.ts";
import { hearthVersion } from "#base/version.ts";
import { checkBootArgs } from "#model/boot-args.ts";
import { checkExec } from "#model/exec-spec.ts";
import { parseImageDigest, parseSnapshotName, parseVmName } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { policyOf } from "#model/policy-flags.ts";
import { FULL_ISOLATION } from "#model/isolation.ts";
import { LIMITS } from "#model/limits.ts";
import type { SnapshotRecord } from "#model/snapshot.ts";
import type { VmSpec } from "#model/vm-spec.ts";
import { LAYERS_MAX } from "#storage/disk-layout.ts";

const FORMAT = "hearth-snapshot";
const VERSION = 1;
export const MANIFEST_NAME = "manifest.json";
/** The environment of a VM has at most 1 MiB; the rest is small. */
export const MANIFEST_MAX_BYTES = 4 * MIB;
/** QEMU's VM state file has 70 kB, Firecracker's less. */
const STATE_MAX_BYTES = 64 * MIB;
/** A qcow2 adds its tables to what the guest wrote: less than a hundredth. */
const LAYER_MAX_BYTES = LIMITS.diskMaxBytes + 2 * GIB;
const TIME_MAX_MS = 8_640_000_000_000_000;

/** The names of a disk's layers, the lowest first. An archive has no others. */
export const LAYER_NAMES: readonly string[] = Array.from({ length: LAYERS_MAX }, (_, index) =>
  index === 0 ? "layer-0.raw" : `layer-${index}.qcow2`,
);
const MEMORY_NAMES = ["memory", "state"] as const;

/** Returns a schema for a string that one of the model's parsers takes. */
function parsed<Value>(parse: (text: string) => Value) {
  return z.string().transform((text, context): Value => {
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: "custom", message: toError(error).message });
      return z.NEVER;
    }
  });
}

/**
 * Fields that were chosen for one host. They are not exported, and ignored on import: the importing host isolates the
 * VM fully, whatever was left out elsewhere.
 */
const LOCAL_FIELDS = [
  "isolation",
  "lifetimeMs",
  "idleTimeoutMs",
  "restart",
  "publish",
  "networks",
  "sourceSnapshot",
  "cold",
  "noWarm",
  "internal",
  "placeholders",
] as const satisfies readonly (keyof VmSpec)[];
/** The names that some of them had in an older Hearth. */
const OLDER_LOCAL_FIELDS = ["origin", "hidden", "blanks"] as const;

/** Archives of an older Hearth may be of a VM with a user-mode network: see store/user-network.ts. */
const OLDER_NETWORK = "user";

function withoutLocal(spec: object): object {
  const isLocal = (field: string): boolean =>
    [...LOCAL_FIELDS, ...OLDER_LOCAL_FIELDS].some((local) => local === field);
  const travelled = Object.fromEntries(Object.entries(spec).filter(([field]) => !isLocal(field)));
  if (travelled["network"] !== OLDER_NETWORK) return travelled;
  const policy = policyOf({ base: "allow-all", allow: [], deny: [], allowDomain: [] });
  return { ...travelled, network: "nat", policy };
}

const asked = createVmSchema.shape;
const travellingSpec = z.strictObject({
  image: parsed(parseImageRef),
  cpus: asked.cpus.unwrap(),
  memoryBytes: asked.memoryBytes.unwrap(),
  diskBytes: asked.diskBytes.unwrap(),
  volumes: z.tuple([]),
  network: asked.network.unwrap(),
  policy: asked.policy,
  init: asked.init.unwrap(),
  nested: asked.nested.unwrap(),
  diskLimit: asked.diskLimit,
  netLimit: asked.netLimit,
  driver: asked.driver,
  kernel: asked.kernel,
  bootArgs: asked.bootArgs.unwrap(),
  env: asked.env.unwrap(),
  user: asked.user,
  workdir: asked.workdir,
  autoRemove: asked.autoRemove.unwrap(),
  // A new field of VmSpec belongs here or among the local ones.
} satisfies Record<Exclude<keyof VmSpec, (typeof LOCAL_FIELDS)[number]>, z.ZodType>);

const spec = z
  .looseObject({})
  .transform(withoutLocal)
  .pipe(travellingSpec)
  .superRefine(({ bootArgs, env }, context) => {
    for (const check of [() => checkBootArgs(bootArgs), () => checkExec({ argv: [], env })]) {
      try {
        check();
      } catch (error) {
        context.addIssue({ code: "custom", message: toError(error).message });
      }
    }
  })
  .transform((travelled): VmSpec => ({ ...travelled, isolation: FULL_ISOLATION }));

/** The compatibility key is computed anew on import. */
const shape = z.strictObject({
  driver: z.string().regex(/^[a-z][a-z0-9-]{0,31}$/),
  vmm: z.string().max(4096),
  // Never numbers: as keys of an object those would change their order, and with it the compatibility key.
  vm: z.record(z.string().regex(/^[a-z][a-z-]{0,31}$/), z.string().max(4096)),
});

const part = z
  .strictObject({
    name: z.enum([...MEMORY_NAMES, ...LAYER_NAMES]),
    sizeBytes: z.int().positive(),
    sha256: z.string().regex(/^[0-9a-f]{64}$/),
  })
  .refine(({ name, sizeBytes }) => sizeBytes <= maxBytesOf(name), { error: "is too large" });

function maxBytesOf(name: string): number {
  if (name === "memory") return LIMITS.memoryMaxBytes;
  return name === "state" ? STATE_MAX_BYTES : LAYER_MAX_BYTES;
}

const manifest = z
  .strictObject({
    format: z.literal(FORMAT),
    version: z.literal(VERSION),
    hearth: z.string().max(64),
    snapshot: z.strictObject({
      name: parsed(parseSnapshotName).optional(),
      vmName: parsed(parseVmName),
      spec,
      imageDigest: parsed(parseImageDigest),
      shape: shape.optional(),
      diskFormat: z.enum(["raw", "qcow2"]),
      createdAtMs: z.int().nonnegative().max(TIME_MAX_MS),
    }),
    parts: z.array(part).max(MEMORY_NAMES.length + LAYERS_MAX),
  })
  .superRefine(({ snapshot, parts }, context) => {
    const names = parts.map(({ name }) => name);
    const memory = snapshot.shape === undefined ? [] : MEMORY_NAMES;
    const layers = LAYER_NAMES.slice(0, Math.max(1, names.length - memory.length));
    const wanted = [...memory, ...layers];
    if (names.join() !== wanted.join())
      context.addIssue({ code: "custom", path: ["parts"], message: `are not ${wanted.join(", ")}` });
  });

export type SnapshotManifest = z.infer<typeof manifest>;
/** A file of a snapshot, as its archive has it. */
export type ArchivedPart = z.infer<typeof part>;

/**
 * Returns the manifest of this snapshot's archive.
 * @throws Error for an archive that could not be imported, because the snapshot's directory is not as its record says
 */
export function manifestOf(snapshot: SnapshotRecord, parts: readonly ArchivedPart[]): string {
  const { name, vmName, imageDigest, diskFormat, createdAtMs } = snapshot;
  // Volumes are no part of a snapshot, and a VM with volumes has none with memory.
  const travelling = { ...withoutLocal(snapshot.spec), volumes: [] };
  const { driver, vmm, vm } = snapshot.shape ?? {};
  const fits = driver === undefined ? undefined : { driver, vmm, vm };
  const record = { name, vmName, spec: travelling, imageDigest, shape: fits, diskFormat, createdAtMs };
  const head = { format: FORMAT, version: VERSION, hearth: hearthVersion() };
  const text = JSON.stringify({ ...head, snapshot: record, parts }, undefined, 2);
  parseManifest(text);
  return text;
}

/**
 * Parses and checks a manifest. @throws Error with all that is wrong; HearthError `snapshot.mismatch` for an archive of
 * a newer Hearth
 */
export function parseManifest(text: string): SnapshotManifest {
  const json: unknown = JSON.parse(text);
  const head = z.object({ format: z.literal(FORMAT), version: z.int(), hearth: z.string() }).safeParse(json);
  if (!head.success) throw new Error("it is not the manifest of a snapshot of Hearth");
  if (head.data.version > VERSION) {
    const writer = JSON.stringify(head.data.hearth.slice(0, 32));
    throw new HearthError(
      "snapshot.mismatch",
      `The archive was written by a newer version of Hearth, ${writer}.`,
      {
        hint: `Upgrade Hearth on this host: it has ${hearthVersion()}.`,
      },
    );
  }
  const result = manifest.safeParse(json);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
  throw new Error(problems.join("; ").slice(0, 1_000));
}
