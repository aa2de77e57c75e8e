/** The schema of config.toml: its keys, what each takes, its default, and the rules between them. */
import { isAbsolute } from "node:path";
import { z } from "zod";
import { parseDuration } from "#base/durations.ts";
import { HearthError } from "#base/error.ts";
import { parseSize } from "#base/sizes.ts";
import { qemuProgramDenial } from "#drivers/qemu/installed-qemu.ts";
import { isSafeSource } from "#host/download.ts";
import { DEFAULTS } from "#model/defaults.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { LIMITS } from "#model/limits.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";
import { parsePolicyForm } from "#model/policy-form.ts";
import { checkOwnName } from "#model/policy-presets.ts";
import { INITS, NETWORKS } from "#model/vm-spec.ts";

const MEMORY = { minBytes: LIMITS.memoryMinBytes, maxBytes: LIMITS.memoryMaxBytes };
const DISK = { minBytes: LIMITS.diskMinBytes, maxBytes: LIMITS.diskMaxBytes };
const BUDGET = { minBytes: 0, maxBytes: LIMITS.diskMaxBytes };
const HEALTH = { minMs: 100, maxMs: 3_600_000 };
const DRIVERS = ["qemu", "firecracker"] as const;

/**
 * Uids that nothing else assigns: systemd's containers end at 1879048191, and what follows is unused (UIDS-GIDS.md of
 * systemd); Debian's subordinate ids end at 600100000. Uids of people and of services end below `min`.
 */
const UIDS = { first: 1_900_000_000, count: 65_536, min: 65_536, max: 2_147_352_575 };

/** The parts of an issue besides its message, which follows the key and the value. */
export type IssueParams = {
  readonly hint?: string | undefined;
  readonly isWhole?: true;
  /** The message begins with the place in the value that it is about. */
  readonly hasPlace?: true;
};

type Context = { addIssue(issue: { code: "custom"; message: string; params: IssueParams }): void };

function refuse(context: Context, message: string, params: IssueParams = {}): void {
  context.addIssue({ code: "custom", message, params });
}

const text = z.string({ error: "must be text in quotes" });

/**
 * Returns a schema for text that a parser of the model takes. The parser's message begins with a flag's name, which the
 * key replaces.
 */
function parsed<Value>(parse: (given: string) => Value) {
  return text.transform((given, context): Value => {
    try {
      return parse(given);
    } catch (error) {
      if (!(error instanceof HearthError)) throw error;
      const message = error.message.replace(/^[a-z-]+: /, "").replace(/\.$/, "");
      refuse(context, message, { hint: error.hint, isWhole: true });
      return z.NEVER;
    }
  });
}

/** Returns a schema for text that `denial` has nothing against. */
function checked(denial: (given: string) => string | undefined, hint?: string) {
  return text.superRefine((given, context) => {
    const why = denial(given);
    if (why !== undefined) refuse(context, why, { hint });
  });
}

const size = (range: typeof MEMORY) => parsed((given) => parseSize("size", given, range));
const duration = parsed((given) => parseDuration("time", given, HEALTH));
const oneOf = <const Choices extends readonly [string, ...string[]]>(choices: Choices) =>
  z.enum(choices, { error: `must be one of ${choices.join(", ")}` });
const yesOrNo = z.boolean({ error: "must be true or false" });

function wholeNumber(min: number, max: number) {
  const error = `must be a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
}

const absolutePath = checked((given) =>
  isAbsolute(given) && !given.includes("\0") ? undefined : "must be an absolute path",
);
const qemuProgram = checked(qemuProgramDenial, 'For example: program = "/opt/qemu/bin/qemu-system-x86_64"');
const sourceUrl = checked(
  (given) =>
    URL.canParse(given) && isSafeSource(new URL(given)) ? undefined : "must be an https:// address",
  "http:// is allowed only for this machine, such as http://127.0.0.1:8000.",
);

const SHAPE = {
  cpus: wholeNumber(1, LIMITS.cpusMax),
  memory: size(MEMORY),
  disk: size(DISK),
  network: oneOf(NETWORKS),
};

const defaults = z
  .strictObject({
    cpus: SHAPE.cpus.default(DEFAULTS.cpus),
    memory: SHAPE.memory.default(DEFAULTS.memoryBytes),
    disk: SHAPE.disk.default(DEFAULTS.diskBytes),
    network: SHAPE.network.default(DEFAULTS.network),
    driver: oneOf(DRIVERS).optional(),
  })
  .transform(({ memory, disk, ...same }) => ({ ...same, memoryBytes: memory, diskBytes: disk }));

/** A kind of VM, and the number of them that wait. `defaults` has what is left out. */
const pool = z
  .strictObject({
    image: parsed(parseImageRef),
    count: wholeNumber(0, LIMITS.poolMax).default(1),
    cpus: SHAPE.cpus.optional(),
    memory: SHAPE.memory.optional(),
    disk: SHAPE.disk.optional(),
    network: SHAPE.network.optional(),
    init: oneOf(INITS).optional(),
  })
  .transform(({ memory, disk, ...same }) => ({ ...same, memoryBytes: memory, diskBytes: disk }));

const firecracker = z
  .strictObject({
    /** Programs that are used instead of those that are found. */
    program: absolutePath.optional(),
    jailer: absolutePath.optional(),
    /** A compiled filter of system calls that replaces Firecracker's own. */
    seccomp_filter: absolutePath.optional(),
    /** A place that is laid out like the project's own releases. */
    release_url: sourceUrl.optional(),
  })
  .transform(({ seccomp_filter: seccompFilter, release_url: releaseUrl, ...same }) => ({
    ...same,
    seccompFilter,
    releaseUrl,
  }));

const health = z
  .strictObject({
    /** The time between two heartbeats to a VMM. */
    interval: duration.default(5_000),
    /** The time without an answer after which a VMM is killed. */
    kill_after: duration.default(120_000),
  })
  .superRefine(({ interval, kill_after: killAfter }, context) => {
    if (killAfter > interval) return;
    refuse(
      context,
      `kill_after must be longer than health.interval, ${interval} ms, or a VMM is killed after its first slow answer`,
      { hint: 'For example: kill_after = "2m"', isWhole: true },
    );
  })
  .transform(({ interval, kill_after: killAfter }) => ({ intervalMs: interval, killAfterMs: killAfter }));

/** A policy. Its own parser checks the keys and the rules, because a policy in a file of its own has the same form. */
const policy = z
  .strictObject({ default: z.unknown().optional(), rules: z.unknown().optional() })
  .transform((form, context): NetworkPolicy => {
    try {
      return parsePolicyForm(form);
    } catch (error) {
      if (!(error instanceof HearthError)) throw error;
      refuse(context, error.message.replace(/\.$/, ""), { hint: error.hint, isWhole: true, hasPlace: true });
      return z.NEVER;
    }
  });

const policyNames = parsed((name) => {
  checkOwnName(name);
  return name;
});

const isolation = z
  .strictObject({
    /** VMMs get uids (and gids of the same number) from here, one each. */
    uid_first: wholeNumber(UIDS.min, UIDS.max).default(UIDS.first),
    uid_count: wholeNumber(1, UIDS.count).default(UIDS.count),
  })
  .superRefine(({ uid_first: first, uid_count: count }, context) => {
    if (first + count - 1 <= UIDS.max) return;
    const hint = `Write a smaller uid_first, or uid_count = ${UIDS.max - first + 1}.`;
    refuse(context, `uid_first and uid_count exceed the uid ${UIDS.max}`, { hint, isWhole: true });
  })
  .transform(({ uid_first: uidFirst, uid_count: uidCount }) => ({ uidFirst, uidCount }));

export const CONFIG_SCHEMA = z
  .strictObject({
    defaults: defaults.prefault({}),
    drivers: z
      .strictObject({
        /** A name on PATH or an absolute path; left out: qemu-system-x86_64 on PATH. */
        qemu: z.strictObject({ program: qemuProgram.optional() }).prefault({}),
      })
      .prefault({}),
    firecracker: firecracker.prefault({}),
    health: health.prefault({}),
    warm: z
      .strictObject({
        /** True if VMs start from templates, and make them. */
        enabled: yesOrNo.default(true),
        /** The disk space that all templates together may take. */
        budget: size(BUDGET).default(DEFAULTS.warmBudgetBytes),
      })
      .transform(({ enabled, budget }) => ({ enabled, budgetBytes: budget }))
      .prefault({}),
    memory: z
      .strictObject({
        /** True if a VM is refused when its memory does not fit into what the host has available. */
        admission: yesOrNo.default(true),
        /** The share of the available memory that may be promised to VMs that start, in percent. */
        share: wholeNumber(1, 1_000).default(100),
      })
      .prefault({}),
    /** VMs that are kept ready, by the pool's name. */
    pool: z.record(z.string(), pool).default({}),
    network: z
      .strictObject({
        /** Policies that `--policy` names, besides those of Hearth itself. */
        policies: z.record(policyNames, policy).default({}),
      })
      .prefault({}),
    isolation: isolation.prefault({}),
  })
  .transform(({ pool: pools, ...same }) => ({
    ...same,
    pools: Object.entries(pools).map(([name, shape]) => Object.assign({ name }, shape)),
  }));
