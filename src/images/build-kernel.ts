/** Builds a kernel from Debian's signed package, which is downloaded and unpacked, never installed. */
import { copyFile, mkdir, readFile, readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { HearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import { aptDownload, aptShow, aptUpdate, makePrivateApt } from "#host/apt.ts";
import { hashFile } from "#host/hash-file.ts";
import { makeImageFromTree } from "#host/mke2fs.ts";
import { runWithDeathSignalOrThrow } from "#host/run-with-death-signal.ts";
import { describeBuildFailure } from "#images/build-failure.ts";
import { newKernelManifest } from "#images/manifest.ts";
import type { Architecture, KernelManifest, ManifestFile } from "#images/manifest.ts";
import { planModuleOrder } from "#images/module-order.ts";
import { uuidFor } from "#images/uuid-for.ts";

const TIMEOUT_MS = 120_000;

/**
 * The disk with all modules of a kernel, which guests mount at /lib/modules/RELEASE: any image may boot with any
 * kernel.
 */
export const MODULES_DISK = "modules.ext4";

/** Debian's kernels for virtual machines: they have no drivers for real hardware, so they are small. */
const PACKAGES: Readonly<Record<Architecture, string>> = {
  x86_64: "linux-image-cloud-amd64",
  aarch64: "linux-image-cloud-arm64",
};

/**
 * Modules for the drivers' devices and the overlay root. Some are built into some kernels. Balloon, PCI and vsock cost
 * little, and make one kernel work with every driver.
 */
const MODULES = [
  "virtio_mmio",
  "virtio_pci",
  "virtio_blk",
  "virtio_console",
  "ext4",
  "overlay",
  "virtio_net",
  "virtio_rng",
  "virtio_balloon",
  "vsock",
  "vmw_vsock_virtio_transport",
  "af_packet",
] as const;

export type KernelInput = {
  /** The name of the image, for errors. */
  readonly ref: string;
  readonly architecture: Architecture;
  readonly sources: readonly string[];
  readonly acquire: readonly string[];
  /** An existing directory that only hearthd uses; `vmlinuz` and `modules/` are made in its directory `kernel`. */
  readonly dir: string;
};

/**
 * Fills the directory `kernel`, and returns its manifest.
 * @throws HearthError `image.build_failed`, `host.disk_full`, `host.read_only`
 */
export async function buildKernel(
  input: KernelInput,
  onProgress: OnProgress,
  signal: AbortSignal,
): Promise<KernelManifest> {
  const { dir, ref } = input;
  try {
    const found = await download(input, onProgress, signal);
    onProgress({ stage: "kernel", text: `unpacking ${found.package}` });
    const unpacked = join(dir, "kernel-package");
    const options = { timeoutMs: TIMEOUT_MS, signal };
    await runWithDeathSignalOrThrow("dpkg-deb", ["-x", found.path, unpacked], options);
    const release = await findRelease(unpacked);
    const modules = await collectModules(unpacked, release, join(dir, "kernel", "modules"), signal);
    await copyFile(join(unpacked, "boot", `vmlinuz-${release}`), join(dir, "kernel", "vmlinuz"));
    onProgress({ stage: "kernel", text: "creating the disk with the kernel modules" });
    const { modules: tree } = await findModules(unpacked, release);
    await makeImageFromTree(
      tree,
      join(dir, "kernel", MODULES_DISK),
      uuidFor(`modules of ${release}`),
      signal,
    );
    const names = ["vmlinuz", MODULES_DISK, ...modules.map((name) => `modules/${name}`)];
    const files: ManifestFile[] = [];
    for (const name of names) files.push({ name, ...(await hashFile(join(dir, "kernel", name), signal)) });
    const { architecture } = input;
    return newKernelManifest({
      release,
      architecture,
      package: found.package,
      packageVersion: found.version,
      files,
    });
  } catch (error) {
    if (!(error instanceof HearthError)) throw error;
    throw describeBuildFailure(ref, error, error.cause instanceof Error ? error.cause.message : "");
  }
}

type Download = { readonly path: string; readonly package: string; readonly version: string };

/** The meta package depends on the newest kernel of the suite, whose package is signed and contains the files. */
async function download(input: KernelInput, onProgress: OnProgress, signal: AbortSignal): Promise<Download> {
  onProgress({ stage: "kernel", text: "reading the package lists" });
  const apt = await makePrivateApt(join(input.dir, "apt"), input.sources, input.acquire);
  await aptUpdate(apt, signal);
  const meta = PACKAGES[input.architecture];
  const depends = (await aptShow(apt, meta, signal)).get("Depends") ?? "";
  const name = /\blinux-image-[\w.+-]+/.exec(depends)?.[0];
  if (name === undefined) throw new HearthError("image.build_failed", `${meta} names no kernel package.`);
  const record = await aptShow(apt, name, signal);
  const totalBytes = Number(record.get("Size") ?? Number.NaN);
  onProgress({
    stage: "kernel",
    text: `downloading ${name}`,
    totalBytes: Number.isNaN(totalBytes) ? undefined : totalBytes,
  });
  await aptDownload(apt, name, signal);
  const file = (await readdir(apt.downloadDir)).find((entry) => entry.endsWith(".deb"));
  if (file === undefined) throw new HearthError("image.build_failed", `apt downloaded no file for ${name}.`);
  return { path: join(apt.downloadDir, file), package: name, version: record.get("Version") ?? "" };
}

async function findRelease(unpacked: string): Promise<string> {
  const kernel = (await readdir(join(unpacked, "boot"))).find((name) => name.startsWith("vmlinuz-"));
  if (kernel === undefined)
    throw new HearthError("image.build_failed", "The kernel package contains no kernel.");
  return kernel.slice("vmlinuz-".length);
}

/** Copies the modules and decompresses them, because the guest has no tool for it. Returns the names in load order. */
async function collectModules(
  unpacked: string,
  release: string,
  target: string,
  signal: AbortSignal,
): Promise<string[]> {
  const options = { timeoutMs: TIMEOUT_MS, signal };
  await mkdir(target, { recursive: true });
  const dir = await findModules(unpacked, release);
  await runWithDeathSignalOrThrow("depmod", ["-b", dir.base, release], options);
  const read = (name: string): Promise<string> => readFile(join(dir.modules, name), "utf8");
  const [dep, softdep, alias] = await Promise.all(
    ["modules.dep", "modules.softdep", "modules.alias"].map(read),
  );
  const order = planModuleOrder(MODULES, { dep: dep ?? "", softdep: softdep ?? "", alias: alias ?? "" });
  for (const path of order) {
    const copy = join(target, basename(path));
    await copyFile(join(dir.modules, path), copy);
    if (path.endsWith(".xz")) await runWithDeathSignalOrThrow("xz", ["-d", copy], options);
    if (path.endsWith(".zst")) await runWithDeathSignalOrThrow("zstd", ["-q", "-d", "--rm", copy], options);
  }
  return order.map((path) => basename(path).replace(/\.ko\.\w+$/, ".ko"));
}

/** Newer packages have their modules under `/usr/lib`; depmod needs the directory above `lib`. */
async function findModules(unpacked: string, release: string): Promise<{ base: string; modules: string }> {
  for (const base of [unpacked, join(unpacked, "usr")]) {
    const modules = join(base, "lib", "modules", release);
    try {
      await readdir(modules);
      return { base, modules };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  throw new HearthError("image.build_failed", `The kernel package contains no modules for ${release}.`);
}
