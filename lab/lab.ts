/** A throw-away host with systemd and a working /dev/kvm: a VM of Hearth's own, with this checkout in it. */
import { createHash, randomBytes } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { setInterval } from "node:timers/promises";
import { failAfter } from "#base/clean-up.ts";
import { errorChain } from "#base/error.ts";
import { Hearth } from "#sdk/hearth.ts";
import { attached, command } from "./command.ts";
import { ensureFirecracker } from "./firecracker-bin.ts";

const ROOT = join(import.meta.dirname, "..");
const IMAGE = "debian-host:trixie";
/** The image that VMs in the lab boot. */
const GUEST_IMAGE = "debian:bookworm";
const MEMORY = "4G";
/**
 * With two, its kernel has ended under it twice in a day: QEMU emulates SVM, and KVM on it, on several CPUs at once.
 */
const CPUS = "1";
/** Longer than any command in there; a lab that was forgotten ends by itself. */
const LIFETIME = "3h";
const CACHE = process.env["HEARTH_LAB_CACHE"] ?? join(homedir(), ".cache", "hearth-lab");
const HASH_CHARS = 12;
const WAKE_MS = 10_000;
/** Made here, or fetched. */
const NOT_SOURCE = new Set([".git", ".setup", "build", "dist", "node_modules"]);

/** Environment of the commands in the lab. */
const INSIDE = {
  HEARTH_LAB: "1",
  HEARTH_LAB_OUT: "/srv/out",
  HEARTH_CONTRACT_OUT: "/srv/out/contract",
  HEARTH_E2E_CACHE: "/srv/cache",
  NODE_COMPILE_CACHE: "/srv/cache/compile",
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
} as const;

export class Lab {
  readonly name: string;

  constructor(name = `lab-${randomBytes(4).toString("hex")}`) {
    this.name = name;
  }

  /** Boots it, with what it needs built first; resolves when commands may run. Leaves nothing when it fails. */
  async up(): Promise<void> {
    const volumes = await ensureVolumes();
    const flags = [
      "--nested",
      "--init",
      "systemd",
      "--cpus",
      CPUS,
      "--memory",
      MEMORY,
      "--disk",
      "32G",
      "--timeout",
      LIFETIME,
    ];
    const shared = volumes.flatMap(({ name, path }) => ["--volume", `${name}:${path}:ro`]);
    const code = await hearthAttached(["create", "--rm", "--name", this.name, ...flags, ...shared, IMAGE]);
    if (code !== 0) throw new Error(`The lab did not start: hearth create ended with ${code}.`);
    try {
      await hearth(["exec", this.name, "--", "sh", "/lab/checkout/lab/set-up.sh"]);
    } catch (error) {
      await failAfter(error, () => this.down());
    }
  }

  /** Its exit code. */
  async run(argv: readonly string[]): Promise<number> {
    const over = new AbortController();
    const waking = this.#wakeUntil(over.signal);
    try {
      return await this.#exec(argv);
    } finally {
      over.abort();
      await waking;
    }
  }

  /**
   * Asks for something now and then. An emulated CPU that runs VMs loses its own timer at times: no timer ended in
   * the lab for 14 minutes, and no VM in it went on, until a command came in from outside.
   */
  async #wakeUntil(signal: AbortSignal): Promise<void> {
    try {
      const client = await Hearth.connect({ env: { ...process.env, ...labEnv() } });
      for await (const _ of setInterval(WAKE_MS, undefined, { signal }))
        await client.vm(this.name).exec(["true"], { signal });
    } catch (error) {
      if (!signal.aborted) console.error(`The lab does not answer: ${errorChain(error)}`);
    }
  }

  #exec(argv: readonly string[]): Promise<number> {
    const env = Object.entries(INSIDE).flatMap(([name, value]) => ["-e", `${name}=${value}`]);
    const terminal = process.stdin.isTTY && process.stdout.isTTY ? ["-t"] : [];
    return hearthAttached(["exec", "-i", ...terminal, "-w", "/srv/hearth", ...env, this.name, "--", ...argv]);
  }

  /** Copies out what commands left in /srv/out. */
  async copyOut(dir: string): Promise<void> {
    mkdirSync(dir, { recursive: true });
    await hearth(["cp", `${this.name}:/srv/out/.`, dir]);
  }

  /** Removes it, unless it has ended by itself. */
  async down(): Promise<void> {
    if (!(await this.#isThere())) return;
    try {
      await hearth(["rm", "-f", this.name]);
    } catch (error) {
      // It may have ended meanwhile, and taken itself away.
      if (await this.#isThere()) throw error;
    }
  }

  async #isThere(): Promise<boolean> {
    const there = JSON.parse(await hearth(["ls", "--json"])) as { name: string }[];
    return there.some(({ name }) => name === this.name);
  }
}

function labEnv(): NodeJS.ProcessEnv {
  return {
    HEARTH_HOME: undefined, // The caller's own would come before the others.
    XDG_CONFIG_HOME: join(CACHE, "config"),
    XDG_STATE_HOME: join(CACHE, "state"),
    XDG_CACHE_HOME: CACHE,
    // Short, because socket paths hold 107 bytes.
    XDG_RUNTIME_DIR: join(tmpdir(), `hearth-lab-${process.getuid?.() ?? 0}`),
  };
}

const PROGRAM = [process.execPath, join(ROOT, "bin/hearth.ts")] as const;

function hearth(args: readonly string[], env = labEnv()): Promise<string> {
  return command(PROGRAM[0], [PROGRAM[1], ...args], { env });
}

function hearthAttached(args: readonly string[]): Promise<number> {
  return attached(PROGRAM[0], [PROGRAM[1], ...args], { env: labEnv() });
}

type Shared = { readonly name: string; readonly path: string };

/** Makes a disk for each directory, again when its content has changed. */
async function ensureVolumes(): Promise<readonly Shared[]> {
  for (const image of [IMAGE, GUEST_IMAGE])
    if ((await hearthAttached(["image", "build", image])) !== 0)
      throw new Error(`There is no image ${image}.`);
  const modules = join(ROOT, "node_modules");
  const programs = await ensureFirecracker(CACHE);
  return [
    {
      name: await ensureVolume("modules", hashFiles([join(modules, ".package-lock.json")]), modules),
      path: "/lab/modules",
    },
    { name: await ensureCheckout(), path: "/lab/checkout" },
    { name: await ensureImages(), path: "/lab/cache" },
    { name: await ensureVolume("programs", "firecracker-1-12-1", programs), path: "/lab/bin" },
  ];
}

/** The files of the checkout, and the agents that were built. Without git: a checkout may be an archive's. */
async function ensureCheckout(): Promise<string> {
  const entries = readdirSync(ROOT, { withFileTypes: true }).filter(({ name }) => !NOT_SOURCE.has(name));
  const top = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  const dirs = [...entries.filter((entry) => entry.isDirectory()).map(({ name }) => name), "build/agent"];
  const files = [...top, ...dirs.flatMap(filesIn)].toSorted();
  const fill = async (dir: string): Promise<void> => {
    for (const name of files) {
      mkdirSync(dirname(join(dir, name)), { recursive: true });
      cpSync(join(ROOT, name), join(dir, name));
    }
  };
  return ensureVolume("checkout", hashFiles(files.map((name) => join(ROOT, name))), fill);
}

function filesIn(dir: string): string[] {
  const entries = readdirSync(join(ROOT, dir), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
}

/** The images that VMs in the lab boot, and the programs that are no packages. */
async function ensureImages(): Promise<string> {
  const images = JSON.parse(await hearth(["image", "ls", "--json"])) as { ref: string; digest: string }[];
  const content = images.map(({ ref, digest }) => `${ref} ${digest}`).toSorted();
  return ensureVolume("images", hashText(content.join("\n")), join(CACHE, "hearth"));
}

/** The volume of this content; one that holds older content goes, unless a lab uses it. */
async function ensureVolume(
  kind: string,
  hash: string,
  fill: string | ((dir: string) => Promise<void>),
): Promise<string> {
  const name = `${kind}-${hash}`;
  const there = JSON.parse(await hearth(["volume", "ls", "--json"])) as { name: string; usedBy: string[] }[];
  if (there.some((volume) => volume.name === name)) return name;
  for (const old of there)
    if (old.name.startsWith(`${kind}-`) && old.usedBy.length === 0) await hearth(["volume", "rm", old.name]);
  if (typeof fill === "string") {
    await hearth(["volume", "create", name, "--from", fill]);
    return name;
  }
  const dir = mkdtempSync(join(tmpdir(), "hearth-lab-"));
  try {
    await fill(dir);
    await hearth(["volume", "create", name, "--from", dir]);
  } finally {
    rmSync(dir, { recursive: true });
  }
  return name;
}

function hashFiles(paths: readonly string[]): string {
  const hash = createHash("sha256");
  for (const path of paths) hash.update(`${path}\0`).update(readFileSync(path)).update("\0");
  return hash.digest("hex").slice(0, HASH_CHARS);
}

function hashText(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, HASH_CHARS);
}
