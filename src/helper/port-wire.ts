/**
 * The privileged port on a stream socket, between hearthd and its helper.
 *
 *   hearthd → helper   {"call": 1, "verb": "leaseUid", "args": ["vm-…"]}     ids of calls grow
 *                      {"abort": 1}                                          the call's signal has aborted
 *   helper → hearthd   {"call": 1, "result": 60000}                          each call has one answer
 *                      {"call": 2, "error": {"code": …, "message": …}}
 *                      {"exit": 3, "code": 0, "signal": null}                the VMM that call 3 launched has ended
 *
 * Each message is one line of JSON. Every verb has a row here with the schemas of its arguments and its result; a verb
 * without one does not compile. No file descriptors are passed: files are named by their paths.
 */
import { constants } from "node:os";
import * as z from "zod/mini";
import { ERROR_CODES, HearthError } from "#base/error.ts";
import type { ErrorBody, ErrorCode } from "#base/error.ts";
import type { PrivilegedPort } from "#helper/privileged-port.ts";
import type { ChildExit } from "#jail/vmm-launch.ts";
import { LIMITS } from "#model/limits.ts";
import { POLICY_PROTOCOLS } from "#model/network-policy.ts";
import { PUBLISHED_PROTOCOLS } from "#model/published-port.ts";

/** The limit of one line of hearthd. The longest is the command line of a VMM, some 20 KiB. */
export const CALL_MAX_BYTES = 256 * 1024;
/** The limit of one line of the helper: the output of a tool is up to 16 MiB, before JSON quotes it. */
export const ANSWER_MAX_BYTES = 64 * 1024 * 1024;
/** The limit of calls under way; hearthd waits before it makes more. */
export const CALLS_MAX = 256;

const ID_MAX_CHARS = 64;
const PATH_MAX_CHARS = 4096;
/** MAX_ARG_STRLEN of Linux. */
const ARG_MAX_CHARS = 128 * 1024;
const ARGS_MAX = 2048;
const FILES_MAX = 1024;

const count = z.int().check(z.nonnegative());
const positive = z.int().check(z.positive());
const textUpTo = (chars: number) =>
  z.string().check(
    z.maxLength(chars),
    z.refine((text) => !text.includes("\0"), "must not contain NUL"),
  );
/** Any short text: the verbs parse it. */
const id = z.string().check(z.maxLength(ID_MAX_CHARS));
const path = textUpTo(PATH_MAX_CHARS);
const paths = z.array(path).check(z.maxLength(FILES_MAX));
const args = z.array(textUpTo(ARG_MAX_CHARS)).check(z.maxLength(ARGS_MAX));
const ids = z.array(z.string());
const nothing = z.undefined();

const processRef = z.strictObject({ pid: positive, startTicks: count, hostBootId: id });
const launchedRef = z.strictObject({
  process: z.optional(processRef),
  launcher: z.optional(processRef),
});
const cgroupLimits = z.strictObject({ cpus: positive, memoryBytes: positive, tasks: positive });
const network = z.union([
  z.strictObject({ kind: z.literal("own") }),
  z.strictObject({ kind: z.literal("host") }),
  z.strictObject({ kind: z.literal("join"), path }),
]);
/** Short texts and numbers: the verb parses them. */
const policy = z.strictObject({
  default: z.enum(["allow", "deny"]),
  rules: z
    .array(
      z.strictObject({
        action: z.enum(["allow", "deny"]),
        to: id,
        protocol: z.optional(z.enum(POLICY_PROTOCOLS)),
        ports: z.optional(z.strictObject({ first: positive, last: positive })),
      }),
    )
    .check(z.maxLength(LIMITS.policyRulesMax)),
});
const published = z.strictObject({
  address: id,
  hostPort: positive,
  guestPort: positive,
  protocol: z.enum(PUBLISHED_PROTOCOLS),
});
const rateLimit = z.strictObject({
  bandwidthBytesPerS: z.optional(positive),
  bandwidthBurstBytes: z.optional(positive),
  opsPerS: z.optional(positive),
  opsBurst: z.optional(positive),
});
const networks = z.optional(z.array(id).check(z.maxLength(LIMITS.privateNetworksMax)));
const enforcedPolicy = z.strictObject({ policy, resolver: z.optional(id), networks });
const guestNetwork = z.strictObject({
  limit: z.optional(rateLimit),
  mac: id,
  name: z.optional(id),
  networks,
  resolver: z.optional(id),
  policy,
  publish: z.optional(z.array(published).check(z.maxLength(LIMITS.publishedPortsMax))),
});
const launch = z.strictObject({
  program: path,
  args,
  files: z
    .array(z.strictObject({ path, access: z.enum(["read", "write", "device"]), at: z.optional(path) }))
    .check(z.maxLength(FILES_MAX)),
  fileMaxBytes: positive,
  stdin: z.optional(path),
  stdout: z.optional(path),
  jailer: z.optional(path),
  isolation: z.strictObject({
    jail: z.boolean(),
    pidNamespace: z.boolean(),
    cgroup: z.boolean(),
    network,
  }),
  priority: z.enum(["foreground", "background"]),
});
const toolRun = z.strictObject({
  program: path,
  args,
  reads: paths,
  writes: paths,
  fileMaxBytes: positive,
  timeoutMs: positive,
});

/** The part of a call that is not in its arguments. */
export type CallContext = {
  readonly signal: AbortSignal;
  /** Called with the VMM that the call has launched, and its exit. */
  readonly onLaunch: (vmm: LaunchedRef, exit: Promise<ChildExit>) => void;
};

export type LaunchedRef = z.infer<typeof launchedRef>;

/** The schemas of one verb, and the method that it calls. */
export type WireVerb<Args = unknown, Result = unknown> = {
  readonly args: z.ZodMiniType<Args>;
  readonly result: z.ZodMiniType<Result>;
  readonly run: (port: PrivilegedPort, args: Args, context: CallContext) => Promise<Result>;
};

/** Joins the schemas of a verb's arguments and result with the method that does it. */
function verb<Args, Result>(
  argsSchema: z.ZodMiniType<Args>,
  result: z.ZodMiniType<Result>,
  run: WireVerb<Args, Result>["run"],
): WireVerb<Args, Result> {
  return { args: argsSchema, result, run };
}

const ofVm = z.tuple([id]);

export const WIRE_VERBS = {
  limitations: verb(
    z.tuple([]),
    z.strictObject({
      uid: z.optional(z.string()),
      cgroup: z.optional(z.string()),
      network: z.optional(z.string()),
      domains: z.optional(z.string()),
    }),
    (port) => port.limitations(),
  ),
  leaseUid: verb(ofVm, z.optional(count), (port, [vm]) => port.leaseUid(vm)),
  uidOf: verb(ofVm, z.optional(count), (port, [vm]) => port.uidOf(vm)),
  releaseUid: verb(ofVm, nothing, (port, [vm], { signal }) => done(port.releaseUid(vm, signal))),
  listLeases: verb(z.tuple([]), ids, (port) => port.listLeases()),
  runTool: verb(z.tuple([toolRun]), z.string(), (port, [tool], { signal }) => port.runTool(tool, signal)),
  giveFiles: verb(ofVm, nothing, (port, [vm]) => done(port.giveFiles(vm))),
  takeFiles: verb(ofVm, nothing, (port, [vm]) => done(port.takeFiles(vm))),
  giveVolume: verb(z.tuple([id, id]), nothing, (port, [vm, volume]) => done(port.giveVolume(vm, volume))),
  takeVolume: verb(z.tuple([id, id]), nothing, (port, [vm, volume]) => done(port.takeVolume(vm, volume))),
  sealRunDir: verb(ofVm, nothing, (port, [vm]) => done(port.sealRunDir(vm))),
  giveMemoryCopy: verb(ofVm, nothing, (port, [vm]) => done(port.giveMemoryCopy(vm))),
  giveMemoryBase: verb(ofVm, nothing, (port, [vm]) => done(port.giveMemoryBase(vm))),
  sealMemory: verb(z.tuple([id]), nothing, (port, [snapshot]) => done(port.sealMemory(snapshot))),
  makeCgroup: verb(z.tuple([id, cgroupLimits]), z.optional(z.string()), (port, [vm, limits]) =>
    port.makeCgroup(vm, limits),
  ),
  cgroupOf: verb(ofVm, z.optional(z.string()), (port, [vm]) => port.cgroupOf(vm)),
  removeCgroup: verb(ofVm, nothing, (port, [vm], { signal }) => done(port.removeCgroup(vm, signal))),
  listCgroups: verb(z.tuple([]), ids, (port) => port.listCgroups()),
  makeNetwork: verb(z.tuple([id, guestNetwork]), nothing, (port, [vm, wanted], { signal }) =>
    done(port.makeNetwork(vm, wanted, signal)),
  ),
  setNetworkPolicy: verb(z.tuple([id, enforcedPolicy]), nothing, (port, [vm, wanted], { signal }) =>
    done(port.setNetworkPolicy(vm, wanted, signal)),
  ),
  setNetworkLimit: verb(z.tuple([id, rateLimit]), nothing, (port, [vm, limit], { signal }) =>
    done(port.setNetworkLimit(vm, limit, signal)),
  ),
  readNetworkRules: verb(
    z.tuple([id, z.enum(["rules", "counters"])]),
    z.string(),
    (port, [vm, what], { signal }) => port.readNetworkRules(vm, what, signal),
  ),
  removeNetwork: verb(ofVm, nothing, (port, [vm], { signal }) => done(port.removeNetwork(vm, signal))),
  listNetworks: verb(z.tuple([]), ids, (port) => port.listNetworks()),
  launchVmm: verb(z.tuple([id, launch]), launchedRef, async (port, [vm, what], { signal, onLaunch }) => {
    const { process, launcher, exit } = await port.launchVmm(vm, what, signal);
    onLaunch({ process, launcher }, exit);
    return { process, launcher };
  }),
  endVmm: verb(
    z.tuple([id, processRef, count]),
    z.optional(z.enum(["SIGTERM", "SIGKILL"])),
    (port, [vm, vmm, graceMs], { signal }) => port.endVmm(vm, vmm, graceMs, signal),
  ),
  findIsolationFaults: verb(
    z.tuple([id, processRef, z.strictObject({ seccomp: z.boolean() })]),
    z.array(z.string()),
    (port, [vm, vmm, options]) => port.findIsolationFaults(vm, vmm, options),
  ),
  removeJail: verb(ofVm, nothing, (port, [vm]) => done(port.removeJail(vm))),
  listJails: verb(z.tuple([]), ids, (port) => port.listJails()),
} as const satisfies Readonly<Record<keyof PrivilegedPort, object>>;

export type WireVerbs = typeof WIRE_VERBS;
export type VerbName = keyof WireVerbs;
/** The arguments of a verb, without its signal, which is a separate message. */
export type VerbArgs<Name extends VerbName> =
  Parameters<PrivilegedPort[Name]> extends [...infer Args, AbortSignal]
    ? Args
    : Parameters<PrivilegedPort[Name]>;
export type VerbResult<Name extends VerbName> = Awaited<ReturnType<WireVerbs[Name]["run"]>>;

const request = z.union([
  z.strictObject({ call: positive, verb: id, args: z.array(z.unknown()) }),
  z.strictObject({ abort: positive }),
]);
const answer = z.union([
  z.strictObject({ call: positive, result: z.optional(z.unknown()) }),
  z.strictObject({
    call: positive,
    error: z.strictObject({ code: z.string(), message: z.string(), hint: z.optional(z.string()) }),
  }),
  z.strictObject({
    exit: positive,
    code: z.nullable(z.int()),
    signal: z.nullable(z.enum(Object.keys(constants.signals) as NodeJS.Signals[])),
  }),
]);

export type Request = z.infer<typeof request>;
export type Answer = z.infer<typeof answer>;

/** @throws HearthError `input.invalid` for a message that hearthd does not send */
export function parseRequest(message: unknown): Request {
  return parseWith(request, message, "A message of hearthd");
}

/** @throws HearthError `input.invalid` for a message that the helper does not send */
export function parseAnswer(message: unknown): Answer {
  return parseWith(answer, message, "A message of the helper");
}

/** @throws HearthError `input.invalid` with the field, and the rule that it breaks */
export function parseWith<Value>(schema: z.ZodMiniType<Value>, value: unknown, what: string): Value {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const field = issue?.path.join(".") ?? "";
  const where = field === "" ? what : `${what}: ${field}`;
  const expected = issue !== undefined && "expected" in issue ? `, expected ${String(issue.expected)}` : "";
  throw new HearthError("input.invalid", `${where} is refused: ${issue?.code ?? "unknown"}${expected}.`);
}

/** Converts the error of an answer into hearthd's error. */
export function errorFromAnswer({
  code,
  message,
  hint,
}: Omit<ErrorBody, "code"> & { code: string }): HearthError {
  if (Object.hasOwn(ERROR_CODES, code)) return new HearthError(code as ErrorCode, message, { hint });
  return new HearthError(
    "internal.bug",
    `The helper failed with the unknown code ${JSON.stringify(code)}: ${message}`,
  );
}

async function done(verbDone: Promise<void>): Promise<undefined> {
  await verbDone;
}
