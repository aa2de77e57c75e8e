/** The records beside images and kernels in the cache. The sha256 of a record is the name of its image or kernel. */
import { z } from "zod";
import { HearthError } from "#base/error.ts";
import { INITS } from "#model/vm-spec.ts";

const SCHEMA_VERSION = 1;

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const file = z.strictObject({
  /** The path of a file inside the directory of the manifest. */
  name: z.string().regex(/^(?:[A-Za-z0-9][\w.+-]*\/)?[A-Za-z0-9][\w.+-]*$/),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  sizeBytes: z.int().nonnegative(),
});
const architecture = z.enum(["x86_64", "aarch64"]);

const imageManifest = z.strictObject({
  schemaVersion: z.literal(SCHEMA_VERSION),
  ref: z.string(),
  suite: z.string(),
  architecture,
  builtAtMs: z.int(),
  /** The digest of the kernel's manifest. */
  kernel: digest,
  files: z.array(file).min(1),
  config: z.strictObject({
    env: z.record(z.string(), z.string()),
    entrypoint: z.array(z.string()),
    cmd: z.array(z.string()),
    user: z.string(),
    workdir: z.string(),
  }),
  inits: z.array(z.enum(INITS)).min(1),
  packageCount: z.int().nonnegative(),
});

const kernelManifest = z.strictObject({
  schemaVersion: z.literal(SCHEMA_VERSION),
  /** The output of `uname -r`. */
  release: z.string(),
  architecture,
  package: z.string(),
  packageVersion: z.string(),
  /** `vmlinuz`, and the modules in load order. */
  files: z.array(file).min(1),
});

export type ImageManifest = z.infer<typeof imageManifest>;
export type KernelManifest = z.infer<typeof kernelManifest>;
export type ManifestFile = z.infer<typeof file>;
export type Architecture = z.infer<typeof architecture>;

export function newImageManifest(fields: Omit<ImageManifest, "schemaVersion">): ImageManifest {
  return { schemaVersion: SCHEMA_VERSION, ...fields };
}

export function newKernelManifest(fields: Omit<KernelManifest, "schemaVersion">): KernelManifest {
  return { schemaVersion: SCHEMA_VERSION, ...fields };
}

/** Returns the bytes that are stored and hashed. */
export function formatManifest(manifest: ImageManifest | KernelManifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** @throws HearthError `image.corrupt` if the text is not such a manifest */
export function parseImageManifest(text: string, path: string): ImageManifest {
  return parse(imageManifest, text, path);
}

/** @throws HearthError `image.corrupt` if the text is not such a manifest */
export function parseKernelManifest(text: string, path: string): KernelManifest {
  return parse(kernelManifest, text, path);
}

function parse<T>(schema: z.ZodType<T>, text: string, path: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    throw new HearthError("image.corrupt", `The manifest ${path} cannot be read`, {
      hint: "Build the image again: `hearth image rm IMAGE && hearth image build IMAGE`.",
      cause: error instanceof z.ZodError ? new Error(z.prettifyError(error)) : error,
    });
  }
}
