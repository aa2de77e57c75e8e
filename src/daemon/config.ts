/** config.toml: every key optional, unknown keys refused with the nearest known one. */
import { readFileSync } from "node:fs";
import { isAbsolute, join } from "node:path";
import { parse } from "smol-toml";
import { parseDuration } from "#base/durations.ts";
import { errorChain, HearthError, toError } from "#base/error.ts";
import { nearest } from "#base/nearest.ts";
import { parseSize } from "#base/sizes.ts";
import { qemuProgramDenial } from "#drivers/qemu/installed-qemu.ts";
import { isSafeSource } from "#host/download.ts";
import { DEFAULTS } from "#model/defaults.ts";
import { LIMITS } from "#model/limits.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { INITS, NETWORKS } from "#model/vm-spec.ts";
import type { Init, Network } from "#model/vm-spec.ts";

export type Config = {
  readonly defaults: {
    readonly cpus: number;
    readonly memoryBytes: number;
    readonly diskBytes: number;
    readonly network: Network;
    readonly driver: string | undefined;
  };
  readonly drivers: {
    readonly qemu: {
      /** A name on PATH or an absolute path; undefined: qemu-system-x86_64 on PATH. */
      readonly program: string | undefined;
    };
  };
  readonly firecracker: {
    /** Absolute paths of programs that are used instead of those that are found. */
    readonly program: string | undefined;
    readonly jailer: string | undefined;
    /** A compiled filter of system calls in place of Firecracker's own. */
    readonly seccompFilter: string | undefined;
    /** A place that is laid out like the project's own releases. */
    readonly releaseUrl: string | undefined;
  };
  readonly health: {
    /** How often a VMM is asked whether it answers. */
    readonly intervalMs: number;
    /** A VMM that did not answer for this long is killed. */
    readonly killAfterMs: number;
  };
  /** VMs that are kept ready, by the pool's name. */
  readonly pools: readonly PoolConfig[];
  readonly warm: {
    /** Whether VMs start from templates, and make them. */
    readonly enabled: boolean;
    /** What all templates may take on the disk. */
    readonly budgetBytes: number;
  };
  readonly isolation: {
    /** VMMs get uids (and gids of the same number) from here, one each. */
    readonly uidFirst: number;
    readonly uidCount: number;
  };
};

/** A shape of VMs, and how many of them wait. */
export type PoolConfig = {
  readonly name: string;
  readonly image: string;
  readonly count: number;
  readonly cpus?: number | undefined;
  readonly memoryBytes?: number | undefined;
  readonly diskBytes?: number | undefined;
  readonly network?: Network | undefined;
  readonly init?: Init | undefined;
};

const MEMORY = { minBytes: LIMITS.memoryMinBytes, maxBytes: LIMITS.memoryMaxBytes };
const DISK = { minBytes: LIMITS.diskMinBytes, maxBytes: LIMITS.diskMaxBytes };
const BUDGET = { minBytes: 0, maxBytes: LIMITS.diskMaxBytes };
const HEALTH = { minMs: 100, maxMs: 3_600_000 };

/**
 * Uids that nothing else hands out: systemd's containers end at 1879048191, and what follows is unused
 * (UIDS-GIDS.md of systemd); Debian's subordinate ids end at 600100000.
 */
const UIDS = { first: 1_900_000_000, count: 65_536, min: 1_000, max: 2_147_352_575 };

/** What each key takes, and how it is read. */
const KEYS = {
  defaults: {
    cpus: (key: string, value: unknown) => wholeNumber(key, value, 1, LIMITS.cpusMax),
    memory: (key: string, value: unknown) => parseSize(key, text(key, value), MEMORY),
    disk: (key: string, value: unknown) => parseSize(key, text(key, value), DISK),
    network: (key: string, value: unknown) => oneOf(key, value, NETWORKS),
    driver: (key: string, value: unknown) => text(key, value),
  },
  firecracker: {
    program: absolutePath,
    jailer: absolutePath,
    seccomp_filter: absolutePath,
    release_url: sourceUrl,
  },
  health: {
    interval: (key: string, value: unknown) => parseDuration(key, text(key, value), HEALTH),
    kill_after: (key: string, value: unknown) => parseDuration(key, text(key, value), HEALTH),
  },
  warm: {
    enabled: yesOrNo,
    budget: (key: string, value: unknown) => parseSize(key, text(key, value), BUDGET),
  },
  isolation: {
    uid_first: (key: string, value: unknown) => wholeNumber(key, value, UIDS.min, UIDS.max),
    uid_count: (key: string, value: unknown) => wholeNumber(key, value, 1, UIDS.count),
  },
} as const;

/** The keys of each `[drivers.NAME]`. */
const DRIVER_KEYS = {
  qemu: { program: qemuProgram },
} as const;

/** Of each `[pool.NAME]`. */
const POOL_KEYS = {
  image: (key: string, value: unknown) => parseImageRef(text(key, value)),
  count: (key: string, value: unknown) => wholeNumber(key, value, 0, LIMITS.poolMax),
  cpus: KEYS.defaults.cpus,
  memory: KEYS.defaults.memory,
  disk: KEYS.defaults.disk,
  network: KEYS.defaults.network,
  init: (key: string, value: unknown) => oneOf(key, value, INITS),
} as const;

/** @throws HearthError `config.invalid` with the file, the key, the value and the rule. */
export function readConfig(configDir: string): Config {
  const path = join(configDir, "config.toml");
  let source: string;
  try {
    source = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return parseConfig(path, "");
    throw new HearthError("config.invalid", `${path} cannot be read.`, {
      hint: "Check its owner and mode.",
      cause: error,
    });
  }
  return parseConfig(path, source);
}

/** `path` is named in errors. @throws HearthError `config.invalid` */
export function parseConfig(path: string, source: string): Config {
  const { values: given, pools } = readDocument(path, source);
  const value = <Table extends keyof typeof KEYS, Key extends keyof (typeof KEYS)[Table] & string>(
    table: Table,
    key: Key,
  ): unknown => given.get(`${table}.${key}`);
  const config: Config = {
    defaults: {
      cpus: (value("defaults", "cpus") as number | undefined) ?? DEFAULTS.cpus,
      memoryBytes: (value("defaults", "memory") as number | undefined) ?? DEFAULTS.memoryBytes,
      diskBytes: (value("defaults", "disk") as number | undefined) ?? DEFAULTS.diskBytes,
      network: (value("defaults", "network") as Network | undefined) ?? "none",
      driver: value("defaults", "driver") as string | undefined,
    },
    drivers: { qemu: { program: given.get("drivers.qemu.program") as string | undefined } },
    firecracker: {
      program: value("firecracker", "program") as string | undefined,
      jailer: value("firecracker", "jailer") as string | undefined,
      seccompFilter: value("firecracker", "seccomp_filter") as string | undefined,
      releaseUrl: value("firecracker", "release_url") as string | undefined,
    },
    health: {
      intervalMs: (value("health", "interval") as number | undefined) ?? 5_000,
      killAfterMs: (value("health", "kill_after") as number | undefined) ?? 120_000,
    },
    pools: pools.map((name) => readPool(path, name, given)),
    warm: {
      enabled: (value("warm", "enabled") as boolean | undefined) ?? true,
      budgetBytes: (value("warm", "budget") as number | undefined) ?? DEFAULTS.warmBudgetBytes,
    },
    isolation: {
      uidFirst: (value("isolation", "uid_first") as number | undefined) ?? UIDS.first,
      uidCount: (value("isolation", "uid_count") as number | undefined) ?? UIDS.count,
    },
  };
  checkTogether(path, config);
  return config;
}

/** Checks keys that are right by themselves. */
function checkTogether(path: string, { health, isolation }: Config): void {
  if (health.killAfterMs <= health.intervalMs)
    throw invalid(
      path,
      `health.kill_after is not longer than health.interval, ${health.intervalMs} ms, so a VMM would be killed at its first slow answer`,
      'Write kill_after = "2m", for one.',
    );
  if (isolation.uidFirst + isolation.uidCount - 1 > UIDS.max)
    throw invalid(
      path,
      `isolation.uid_first and uid_count reach beyond the uid ${UIDS.max}`,
      `Write a smaller uid_first, or uid_count = ${UIDS.max - isolation.uidFirst + 1}.`,
    );
}

type Document = {
  /** By table and key, such as `defaults.cpus`. */
  readonly values: ReadonlyMap<string, unknown>;
  /** The names of all `[pool.NAME]`, in the order of the file. */
  readonly pools: readonly string[];
};

function readDocument(path: string, source: string): Document {
  const values = new Map<string, unknown>();
  const pools: string[] = [];
  let document: Record<string, unknown>;
  try {
    document = parse(source);
  } catch (error) {
    throw invalid(
      path,
      toError(error).message.split("\n", 1)[0] ?? "",
      "Mend the TOML; docs/configuration.md lists the keys.",
    );
  }
  for (const [table, content] of Object.entries(document)) {
    if (table === "pool") {
      for (const [name, pool] of Object.entries(asTable(path, table, content))) {
        readTable(path, `pool.${name}`, pool, POOL_KEYS, values);
        pools.push(name);
      }
      continue;
    }
    if (table === "drivers") {
      for (const [name, driver] of Object.entries(asTable(path, table, content)))
        readTable(path, `drivers.${name}`, driver, driverKeys(path, name), values);
      continue;
    }
    const keys = ownEntry(KEYS, table);
    if (keys === undefined) throw unknownKey(path, table, [...Object.keys(KEYS), "drivers", "pool"]);
    readTable(path, table, content, keys, values);
  }
  return { values, pools };
}

function driverKeys(path: string, name: string): Readonly<Record<string, Read>> {
  const keys = ownEntry<Readonly<Record<string, Read>>>(DRIVER_KEYS, name);
  if (keys !== undefined) return keys;
  const known = Object.keys(DRIVER_KEYS).map((driver) => `drivers.${driver}`);
  throw unknownKey(path, `drivers.${name}`, known);
}

type Read = (key: string, value: unknown) => unknown;

function readTable(
  path: string,
  table: string,
  content: unknown,
  keys: Readonly<Record<string, Read>>,
  values: Map<string, unknown>,
): void {
  for (const [key, value] of Object.entries(asTable(path, table, content))) {
    const read = ownEntry(keys, key);
    const known = Object.keys(keys).map((name) => `${table}.${name}`);
    if (read === undefined) throw unknownKey(path, `${table}.${key}`, known);
    values.set(`${table}.${key}`, readValue(path, `${table}.${key}`, value, read));
  }
}

function asTable(path: string, table: string, content: unknown): Record<string, unknown> {
  if (typeof content === "object" && content !== null && !Array.isArray(content))
    return content as Record<string, unknown>;
  throw invalid(path, `${table} must be a table`, `Write [${table}].`);
}

function readPool(path: string, name: string, given: ReadonlyMap<string, unknown>): PoolConfig {
  const value = (key: string): unknown => given.get(`pool.${name}.${key}`);
  const image = value("image") as string | undefined;
  if (image === undefined)
    throw invalid(path, `pool.${name}.image is missing`, 'Write image = "debian", for one.');
  return {
    name,
    image,
    count: (value("count") as number | undefined) ?? 1,
    cpus: value("cpus") as number | undefined,
    memoryBytes: value("memory") as number | undefined,
    diskBytes: value("disk") as number | undefined,
    network: value("network") as Network | undefined,
    init: value("init") as Init | undefined,
  };
}

function readValue(path: string, key: string, value: unknown, read: Read): unknown {
  try {
    return read(key, value);
  } catch (error) {
    throw invalid(
      path,
      errorChain(error).replace(/\.$/, ""),
      error instanceof HearthError ? (error.hint ?? "") : "",
    );
  }
}

function ownEntry<Value>(table: Readonly<Record<string, Value>>, key: string): Value | undefined {
  return Object.hasOwn(table, key) ? table[key] : undefined;
}

function unknownKey(path: string, key: string, known: readonly string[]): HearthError {
  const near = nearest(key, known);
  const hint = near === undefined ? `Known are: ${known.join(", ")}.` : `Did you mean ${near}?`;
  return invalid(path, `there is no key ${key}`, hint);
}

function invalid(path: string, what: string, hint: string): HearthError {
  return new HearthError("config.invalid", `${path}: ${what}.`, { hint });
}

function text(key: string, value: unknown): string {
  if (typeof value === "string") return value;
  throw new HearthError("input.invalid", `${key}: ${JSON.stringify(value)} must be text in quotes.`, {
    hint: `Write ${key.split(".").at(-1)} = "…".`,
  });
}

function yesOrNo(key: string, value: unknown): boolean {
  if (typeof value === "boolean") return value;
  throw new HearthError("input.invalid", `${key}: ${JSON.stringify(value)} must be true or false.`);
}

function absolutePath(key: string, value: unknown): string {
  const path = text(key, value);
  if (isAbsolute(path) && !path.includes("\0")) return path;
  throw new HearthError("input.invalid", `${key}: ${JSON.stringify(path)} must be an absolute path.`);
}

function qemuProgram(key: string, value: unknown): string {
  const program = text(key, value);
  const denial = qemuProgramDenial(program);
  if (denial === undefined) return program;
  throw new HearthError("input.invalid", `${key}: ${JSON.stringify(program)} ${denial}.`, {
    hint: 'Write program = "/opt/qemu/bin/qemu-system-x86_64", for one.',
  });
}

function sourceUrl(key: string, value: unknown): string {
  const url = text(key, value);
  if (URL.canParse(url) && isSafeSource(new URL(url))) return url;
  throw new HearthError("input.invalid", `${key}: ${JSON.stringify(url)} must be an https:// address.`, {
    hint: "http:// is taken for this machine alone, such as http://127.0.0.1:8000.",
  });
}

function wholeNumber(key: string, value: unknown, min: number, max: number): number {
  if (Number.isInteger(value) && Number(value) >= min && Number(value) <= max) return Number(value);
  throw new HearthError(
    "input.invalid",
    `${key}: ${JSON.stringify(value)} must be a whole number from ${min} to ${max}.`,
  );
}

function oneOf(key: string, value: unknown, choices: readonly string[]): string {
  if (typeof value === "string" && choices.includes(value)) return value;
  throw new HearthError(
    "input.invalid",
    `${key}: ${JSON.stringify(value)} must be one of ${choices.join(", ")}.`,
  );
}
