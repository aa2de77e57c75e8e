/** Real images from real packages. The cache is the suite's, so that an image is built once for all. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { SILENT } from "#base/log.ts";
import { readTscKhz } from "#drivers/qemu/host-clock.ts";
import { listCommands } from "#host/procfs.ts";
import { runOrThrow } from "#host/run.ts";
import { ImageCache } from "#images/image-cache.ts";

const SHARED_CACHE = join(
  process.env["HEARTH_E2E_CACHE"] ?? join(homedir(), ".cache", "hearth-e2e"),
  "hearth",
);
const AGENT_DIR = join(import.meta.dirname, "..", "build", "agent");
const quiet = (): void => {};

function openCache(cacheDir: string): ImageCache {
  return new ImageCache({
    cacheDir,
    agentPath: (arch) => join(AGENT_DIR, `hearth-agent-${arch}`),
    log: SILENT,
  });
}

test("debian is a bootable set: a sound base of Debian, its kernel, and our initramfs", async (t) => {
  const cache = openCache(SHARED_CACHE);
  const image = await cache.ensure("debian", quiet, t.signal);
  const boot = await cache.bootSet(image.digest, {}, t.signal);
  const options = { timeoutMs: 60_000, signal: t.signal };
  await runOrThrow("e2fsck", ["-f", "-n", boot.base], options);
  const cat = (path: string): Promise<string> =>
    runOrThrow("debugfs", ["-R", `cat ${path}`, boot.base], options);
  assert.match(await cat("/usr/lib/os-release"), /VERSION_CODENAME=bookworm/);
  assert.match(await cat("/etc/apt/sources.list"), / bookworm-security main$/m);
  assert.equal(await cat("/etc/hostname"), "debian\n", "nothing of the host's name");
  assert.equal(await cat("/etc/resolv.conf"), "", "nor of its network");
  const root = await runOrThrow("debugfs", ["-R", "ls -p /", boot.base], options);
  for (const name of ["dev", "proc", "run", "sys", "tmp"]) assert.match(root, new RegExp(`/${name}/`));
  assert.match(root, /\/040755\/0\/0\/etc\//, "the owner is root, whoever built it");
  const initramfs = await runOrThrow("sh", ["-c", 'cpio -it --quiet < "$0"', boot.initramfs], options);
  const names = initramfs.trim().split("\n");
  for (const name of ["init", "mods.txt", "dev/console", "mod/virtio_mmio.ko", "mod/overlay.ko"]) {
    assert.ok(names.includes(name), name);
  }
  const modules = names.filter((name) => name.startsWith("mod/"));
  const place = (name: string): number => modules.indexOf(`mod/${name}.ko`);
  assert.ok(place("virtio_ring") < place("virtio") && place("virtio") < place("virtio_blk"));
});

test("the kernel's ELF file boots without a boot loader", { skip: process.arch !== "x64" }, async (t) => {
  const cache = openCache(SHARED_CACHE);
  const image = await cache.ensure("debian", quiet, t.signal);
  const elf = await cache.kernelElf(image.digest, {}, t.signal);
  const machine = ["-M", "microvm,acpi=on,pit=on,pic=on,rtc=on", "-accel", "tcg", "-cpu", "max", "-m", "256"];
  // SeaBIOS 1.16.3, QEMU 10's, resets before the kernel's first word in most of the boots. VMs have qboot, too.
  const rest = ["-bios", "qboot.rom", "-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"];
  // Emulated, the kernel's own measuring of the counter fails at times and the boot hangs after it.
  const append = ["-append", `console=ttyS0 reboot=t panic=-1 tsc_early_khz=${readTscKhz() ?? 0}`];
  const options = { timeoutMs: 120_000, signal: t.signal };
  // It finds no root, panics, and restarts; that ends this QEMU.
  const said = await runOrThrow(
    "qemu-system-x86_64",
    [...machine, ...rest, ...append, "-kernel", elf],
    options,
  );
  assert.ok(said.includes(`Linux version ${image.kernel} `), said.slice(0, 500));
});

/** Builds in the cache that it is given, and prints each stage's text. */
const BUILDER = `
  const [cacheModule, cacheDir] = process.argv.slice(1);
  const { ImageCache } = await import(cacheModule);
  const log = { event() {}, child: () => log };
  const cache = new ImageCache({ cacheDir, agentPath: () => "/none", log });
  await cache.ensure("debian", ({ text }) => console.log(text), new AbortController().signal);
`;

test("a build that is killed ends with all its programs, and its directory goes at the next start", async (t) => {
  const cacheDir = mkdtempSync("/tmp/hearth-killed-");
  t.after(() => rmSync(cacheDir, { recursive: true, force: true }));
  const module = import.meta.resolve("#images/image-cache.ts");
  const builder = spawn(process.execPath, ["--input-type=module", "-e", BUILDER, module, cacheDir], {
    cwd: join(import.meta.dirname, ".."),
    stdio: ["ignore", "pipe", "inherit"],
  });
  for await (const line of createInterface(builder.stdout)) if (line === "unpacking packages") break;
  builder.kill("SIGKILL");
  await once(builder, "close");
  const cache = openCache(cacheDir);
  assert.deepEqual(await cache.list(), []);
  await cache.cleanUp();
  assert.deepEqual(readdirSync(join(cacheDir, "tmp")), []);
  const left = listCommands().filter(({ argv }) => argv.some((word) => word.includes(cacheDir)));
  assert.deepEqual(left, []);
  assert.equal(existsSync(join(cacheDir, "refs", "debian@bookworm.json")), false);
});
