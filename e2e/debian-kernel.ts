/** A Debian cloud kernel for tests that need no image: downloaded once, unpacked, never installed. */
import { existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { runOrThrow } from "#host/run.ts";

const DIR = join(import.meta.dirname, "../build/e2e");
const DOWNLOAD_TIMEOUT_MS = 300_000;
const MODULES = "modules";
/** The modules of a guest that gives memory back, in load order. */
const BALLOON = ["virtio_ring.ko", "virtio.ko", "virtio_mmio.ko", "virtio_balloon.ko"];

/**
 * The modules that drive a balloon, in load order, from a directory with uncompressed ones. Newer kernels have some
 * built in.
 */
export function balloonModules(dir: string): Buffer[] {
  return BALLOON.filter((name) => name === "virtio_balloon.ko" || existsSync(join(dir, name))).map((name) =>
    readFileSync(join(dir, name)),
  );
}

/** Modules of the kernel that `debianKernel` returns; there once it has. */
export const DEBIAN_MODULES = join(DIR, MODULES);

/** The path of the kernel as it lies in the package (a bzImage). */
export async function debianKernel(signal: AbortSignal): Promise<string> {
  const given = process.env["HEARTH_E2E_KERNEL"];
  if (given !== undefined) return given;
  const kernel = join(DIR, "vmlinuz");
  if (existsSync(kernel) && existsSync(DEBIAN_MODULES)) return kernel;
  mkdirSync(DIR, { recursive: true });
  const work = mkdtempSync(join(DIR, "kernel-"));
  try {
    const options = { cwd: work, timeoutMs: DOWNLOAD_TIMEOUT_MS, signal };
    const meta = await runOrThrow("apt-cache", ["depends", "linux-image-cloud-amd64"], options);
    const name = /Depends: (linux-image-\S+)/.exec(meta)?.[1];
    if (name === undefined)
      throw new Error("linux-image-cloud-amd64 is in no package list; run apt-get update.");
    await runOrThrow("apt-get", ["download", "-q", "-o", "APT::Sandbox::User=root", name], options);
    const [archive = ""] = globSync("*.deb", { cwd: work });
    await runOrThrow("dpkg-deb", ["-x", archive, "root"], options);
    const [unpacked = ""] = globSync("root/boot/vmlinuz-*", { cwd: work });
    await keepModules(join(work, "root"), signal);
    renameSync(join(work, unpacked), kernel);
    return kernel;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Uncompressed: the guest that loads them has no tool for it. */
async function keepModules(root: string, signal: AbortSignal): Promise<void> {
  const made = join(root, MODULES);
  mkdirSync(made);
  for (const name of BALLOON) {
    const [path = ""] = globSync(`**/drivers/virtio/${name}*`, { cwd: root });
    const copy = join(made, basename(path));
    renameSync(join(root, path), copy);
    if (copy.endsWith(".xz"))
      await runOrThrow("xz", ["-d", copy], { timeoutMs: DOWNLOAD_TIMEOUT_MS, signal });
  }
  rmSync(DEBIAN_MODULES, { recursive: true, force: true });
  renameSync(made, DEBIAN_MODULES);
}
