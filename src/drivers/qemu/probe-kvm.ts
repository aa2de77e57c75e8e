/**
 * Finds out whether KVM works, by booting a kernel with it. Opening /dev/kvm proves nothing: there are hosts whose
 * /dev/kvm answers every call and runs no stock kernel. The verdict is stored until the host's kernel, its CPU, KVM's
 * nesting or QEMU change.
 *
 * A "no" is stored only when KVM is the reason: QEMU ran the guest in vain, or named KVM. A device that hearthd may not
 * open, a full disk or a QEMU that was killed are temporary, and probed again. An overloaded host looks like a guest
 * that hangs, so a "no" is valid for a day, and until the next reboot of the host.
 */
import { createHash } from "node:crypto";
import {
  accessSync,
  constants,
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { release, tmpdir } from "node:os";
import { join } from "node:path";
import { VM_NAMES } from "#base/file-names.ts";
import { withCleanUp } from "#base/clean-up.ts";
import { errorChain, toHearthError } from "#base/error.ts";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import type { VmExit } from "#model/vm-handle.ts";
import { hostBootId } from "#host/procfs.ts";
import { readTail, sizeOf } from "#host/bounded-file.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";

export type KvmVerdict = {
  readonly works: boolean;
  /** A sentence for `doctor`. */
  readonly reason: string;
  /** True when this call has booted a guest; false when the answer cost no boot. */
  readonly booted: boolean;
};

export type KvmProbe = {
  /** The file of the stored verdict, in a directory that exists. */
  readonly cacheFile: string;
  readonly kernel: string;
  /** An initramfs with the agent, or whatever prints `readyLine` on the console. */
  readonly initramfs: string;
  /** The text on the console that proves that programs run in the guest. Default: any line of the agent. */
  readonly readyLine?: RegExp | undefined;
  /** QEMU's version; part of the cache's key. */
  readonly version: string;
  readonly program?: string | undefined;
  readonly kvmDevice?: string | undefined;
  /** The longest time that the guest may print nothing. */
  readonly silenceMs?: number | undefined;
  readonly now?: (() => number) | undefined;
};

/** The reason why no guest booted, and whether it was KVM. */
type Failure = { readonly why: string; readonly ofKvm: boolean };

/** The beginning of all lines of the agent on the console. */
const AGENT_LINE = /^hearth: /m;
/** The longest silence of a kernel that runs, also where KVM itself is emulated and a boot takes 15 s. */
const SILENCE_MS = 8_000;
const DEADLINE_MS = 120_000;
/**
 * Arguments that make the kernel print from its very first instructions on, so that a slow one is told from one that
 * hangs.
 */
const TALKATIVE = ["earlyprintk=ttyS0", "loglevel=7"];
const LOOK_EVERY_MS = 20;
const REFUSAL_KEPT_MS = 24 * 3_600_000;
/** Matches the errors of QEMU of which KVM is the reason, unless `PASSING` matches too. */
const NAMES_KVM = /\bkvm\b|\bMSR\b/i;
const PASSING =
  /permission denied|not permitted|no space left|cannot allocate|out of memory|too many open|temporarily|busy/i;
/** KVM's parameters that say whether guests get KVM themselves. */
const NESTING = ["kvm_intel", "kvm_amd"].map((module) => `/sys/module/${module}/parameters/nested`);
const TAIL_BYTES = 64 * 1024;
const MEMORY_BYTES = 256 * 1024 ** 2;

/**
 * Returns the verdict on KVM: the stored one, or that of a boot, at most once per host and day. Does not throw for a
 * KVM that does not work.
 * @throws the reason of `signal`
 */
export async function probeKvm(probe: KvmProbe, signal: AbortSignal): Promise<KvmVerdict> {
  const device = probe.kvmDevice ?? "/dev/kvm";
  const denial = kvmDeviceDenial(device);
  if (denial !== undefined) return { works: false, reason: denial, booted: false };
  const key = kvmKey(probe.version);
  const nowMs = (probe.now ?? Date.now)();
  const kept = readVerdict(probe.cacheFile, key, nowMs);
  if (kept !== undefined) return { works: kept.works, reason: kept.reason, booted: false };
  const failure = await bootWithKvm(probe, signal);
  signal.throwIfAborted();
  const works = failure === undefined;
  const reason = works
    ? `A guest booted with ${device}.`
    : `${device} exists, but no guest boots with it: ${failure.why}`;
  if (works || failure.ofKvm) writeVerdict(probe.cacheFile, key, { works, reason, atMs: nowMs });
  return { works, reason, booted: true };
}

/** Returns why hearthd cannot use the device; undefined when it can open it, which proves nothing yet. */
export function kvmDeviceDenial(device: string): string | undefined {
  if (!existsSync(device)) return `This host has no ${device}.`;
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return `hearthd cannot open ${device} (${(error as NodeJS.ErrnoException).code}).`;
  }
}

/** Returns the stored verdict, without a boot; undefined when there is none for this host. */
export function findKvmVerdict(cacheFile: string, version: string): KvmVerdict | undefined {
  const kept = readVerdict(cacheFile, kvmKey(version), Date.now());
  return kept === undefined ? undefined : { works: kept.works, reason: kept.reason, booted: false };
}

/** Hashes what the verdict depends on. */
function kvmKey(version: string): string {
  const cpu = /^model name\s*:\s*(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "";
  const nesting = NESTING.map((path) => (existsSync(path) ? readFileSync(path, "utf8").trim() : ""));
  return createHash("sha256")
    .update(JSON.stringify([release(), cpu, version, nesting]))
    .digest("hex");
}

type Kept = { readonly works: boolean; readonly reason: string; readonly atMs: number };

function readVerdict(path: string, key: string, nowMs: number): Kept | undefined {
  try {
    const { key: ofKey, works, reason, atMs, bootId } = JSON.parse(readFileSync(path, "utf8"));
    if (ofKey !== key || typeof works !== "boolean") return undefined;
    const ageMs = nowMs - Number(atMs);
    const isValid = works || (bootId === hostBootId() && ageMs >= 0 && ageMs < REFUSAL_KEPT_MS);
    return isValid ? { works, reason: String(reason), atMs: Number(atMs) } : undefined;
  } catch {
    return undefined; // Missing or broken: that costs one boot.
  }
}

function writeVerdict(path: string, key: string, verdict: Kept): void {
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${JSON.stringify({ key, ...verdict, bootId: hostBootId() })}\n`, { mode: 0o600 });
  renameSync(draft, path);
}

/** Boots a guest. Returns undefined when its first line came; otherwise the reason why it did not. */
async function bootWithKvm(probe: KvmProbe, signal: AbortSignal): Promise<Failure | undefined> {
  let dir: string;
  try {
    dir = mkdtempSync(join(tmpdir(), "hearth-kvm-"));
  } catch (error) {
    return { why: `${errorChain(error).replace(/\.$/, "")}.`, ofKvm: false };
  }
  const silenceMs = probe.silenceMs ?? SILENCE_MS;
  const either = AbortSignal.any([signal, AbortSignal.timeout(DEADLINE_MS)]);
  const timing = { startDeadlineMs: silenceMs };
  const driver = new QemuDriver({ program: probe.program, accel: "kvm", timing });
  try {
    const handle = await driver.boot(probePlan(probe, dir), () => {}, either);
    const ended = Promise.withResolvers<VmExit>();
    driver.watch(handle, { exited: ended.resolve, silent: () => {} }, signal);
    const look = (): ReturnType<typeof firstLine> => {
      const consoleLog = join(dir, VM_NAMES.console);
      const isReady = (): boolean => (probe.readyLine ?? AGENT_LINE).test(readTail(consoleLog, TAIL_BYTES));
      return firstLine({ isReady, consoleBytes: () => sizeOf(consoleLog), silenceMs }, ended.promise, either);
    };
    return await withCleanUp(look, () => driver.stop(handle, "kill", new AbortController().signal));
  } catch (error) {
    if (either.aborted) return { why: `it did not boot within ${DEADLINE_MS} ms.`, ofKvm: true };
    const why = errorChain(error);
    const { code } = toHearthError(error);
    const named = code === "vmm.failed" && NAMES_KVM.test(withoutPaths(why)) && !PASSING.test(why);
    return { why: `${why.replace(/\.$/, "")}.`, ofKvm: named || code === "vmm.unresponsive" };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

type Listening = {
  readonly isReady: () => boolean;
  /** The number of bytes on the console so far. */
  readonly consoleBytes: () => number;
  readonly silenceMs: number;
};

async function firstLine(
  { isReady, consoleBytes, silenceMs }: Listening,
  ended: Promise<VmExit>,
  signal: AbortSignal,
): Promise<Failure | undefined> {
  let exit: VmExit | undefined;
  void noteExit();
  async function noteExit(): Promise<void> {
    exit = await ended;
  }
  let bytes = consoleBytes();
  let progressMs = performance.now();
  while (!isReady()) {
    if (consoleBytes() !== bytes) [bytes, progressMs] = [consoleBytes(), performance.now()];
    if (performance.now() - progressMs > silenceMs)
      return { why: `it printed nothing for ${silenceMs} ms.`, ofKvm: true };
    // Only the host kills it, for instance when memory ran out.
    if (exit !== undefined)
      return {
        why: `QEMU ended with ${exit.signal ?? `code ${exit.code}`}.`,
        ofKvm: exit.signal !== "SIGKILL" && exit.signal !== "SIGTERM",
      };
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
  }
  return undefined;
}

/** Removes paths, because Hearth's own file names may contain "kvm". */
function withoutPaths(text: string): string {
  return text.replace(/\S*\/\S*/g, "");
}

function probePlan(probe: KvmProbe, dir: string) {
  return {
    id: vmIdFrom(new Uint8Array(12)),
    name: parseVmName("kvm-probe"),
    stateDir: dir,
    runDir: dir,
    kernel: probe.kernel,
    initramfs: probe.initramfs,
    kernelArgs: ["hearth.root=none", ...TALKATIVE],
    disks: [],
    cpus: 1,
    memoryBytes: MEMORY_BYTES,
    nics: [],
    init: "agent",
    nested: false,
    isolation: NO_ISOLATION,
  } as const;
}
