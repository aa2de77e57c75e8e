/** A Debian cloud kernel for tests that need no image: downloaded once, unpacked, never installed. */
import { existsSync, globSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { runOrThrow } from "#host/run.ts";

const FOLDER = join(import.meta.dirname, "../build/e2e");
const DOWNLOAD_TIMEOUT_MS = 300_000;

/** The path of the kernel as it lies in the package (a bzImage). */
export async function debianKernel(signal: AbortSignal): Promise<string> {
  const given = process.env["HEARTH_E2E_KERNEL"];
  if (given !== undefined) return given;
  const kernel = join(FOLDER, "vmlinuz");
  if (existsSync(kernel)) return kernel;
  mkdirSync(FOLDER, { recursive: true });
  const work = mkdtempSync(join(FOLDER, "kernel-"));
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
    renameSync(join(work, unpacked), kernel);
    return kernel;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
