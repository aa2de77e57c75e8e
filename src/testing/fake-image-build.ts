import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sha256 } from "#host/hash-file.ts";
import type { BuildImage } from "#images/build-image.ts";
import { newKernelManifest } from "#images/manifest.ts";
import type { ManifestFile } from "#images/manifest.ts";
import { fakeKernel } from "#testing/fake-bzimage.ts";

const KERNEL_FILES: Readonly<Record<string, string | Buffer>> = {
  vmlinuz: fakeKernel("the kernel"),
  "modules/virtio.ko": "first module",
  "modules/virtio_blk.ko": "second module",
};

let builds = 0;

/** A build with the files of a real one, a few bytes each. Bases differ, kernels do not. */
export const fakeBuild: BuildImage = async ({ architecture, dir }, onProgress) => {
  onProgress({ stage: "disk", text: "making the disk image" });
  mkdirSync(join(dir, "kernel", "modules"), { recursive: true });
  const files = Object.entries(KERNEL_FILES).map(([name, content]) =>
    write(name, join(dir, "kernel", name), content),
  );
  return {
    base: write("base.ext4", join(dir, "base.ext4"), `base ${++builds}`),
    kernel: newKernelManifest({
      release: "6.1.0-fake",
      architecture,
      package: "linux-image-6.1.0-fake",
      packageVersion: "6.1.1-1",
      files,
    }),
    packageCount: 3,
  };
};

function write(name: string, path: string, content: string | Buffer): ManifestFile {
  writeFileSync(path, content);
  return { name, sha256: sha256(content), sizeBytes: content.length };
}
