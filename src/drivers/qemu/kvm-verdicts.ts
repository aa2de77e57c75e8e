import { rmSync } from "node:fs";
import type { Accel } from "#drivers/qemu/qemu-driver.ts";
import { DEFAULT_QEMU, findQemuVersion } from "#drivers/qemu/installed-qemu.ts";
import { findKvmVerdict, kvmDeviceDenial, probeKvm } from "#drivers/qemu/probe-kvm.ts";
import type { KvmProbe, KvmVerdict } from "#drivers/qemu/probe-kvm.ts";

/** What a guest needs to prove that it runs. */
export type ProofBoot = Pick<KvmProbe, "kernel" | "initramfs">;

export type KvmVerdictsOptions = {
  /** In the cache directory, which exists. */
  readonly cacheFile: string;
  readonly program?: string | undefined;
} & Partial<Pick<KvmProbe, "kvmDevice" | "readyLine" | "silenceMs">>;

/** Knows whether KVM works on this host: asks once, with a boot, however many want to know at the same time. */
export class KvmVerdicts {
  readonly #options: KvmVerdictsOptions;
  #probing: Promise<KvmVerdict> | undefined;

  constructor(options: KvmVerdictsOptions) {
    this.#options = options;
  }

  /** With `fresh` what is known counts no more. @throws the reason of `signal`. */
  async decide(boot: ProofBoot, fresh: boolean, signal: AbortSignal): Promise<KvmVerdict> {
    if (fresh && this.#probing === undefined) rmSync(this.#options.cacheFile, { force: true });
    // Not the caller's signal: others wait for the same answer, which comes in seconds.
    this.#probing ??= this.#probe(boot, new AbortController().signal);
    try {
      return await this.#probing;
    } finally {
      this.#probing = undefined;
      signal.throwIfAborted();
    }
  }

  /** For a VM that is about to boot: its own kernel is the proof, where nobody has asked before. */
  async accelFor(boot: ProofBoot, signal: AbortSignal): Promise<Accel> {
    return (await this.decide(boot, false, signal)).works ? "kvm" : "tcg";
  }

  /** What is known without a boot; undefined as long as nobody has asked. */
  async known(signal: AbortSignal): Promise<KvmVerdict | undefined> {
    const denial = kvmDeviceDenial(this.#options.kvmDevice ?? "/dev/kvm");
    if (denial !== undefined) return { works: false, reason: denial, booted: false };
    return findKvmVerdict(this.#options.cacheFile, await this.#version(signal));
  }

  async cachedVerdict(signal: AbortSignal): Promise<"works" | "fails" | "unknown"> {
    const verdict = await this.known(signal);
    if (verdict === undefined) return "unknown";
    return verdict.works ? "works" : "fails";
  }

  /** What a VM would run with now: emulation as long as nobody has asked, which is then only assumed. */
  async accelSoFar(signal: AbortSignal): Promise<{ readonly accel: Accel; readonly assumed: boolean }> {
    const cachedVerdict = await this.cachedVerdict(signal);
    return { accel: cachedVerdict === "works" ? "kvm" : "tcg", assumed: cachedVerdict === "unknown" };
  }

  async #probe({ kernel, initramfs }: ProofBoot, signal: AbortSignal): Promise<KvmVerdict> {
    return probeKvm({ ...this.#options, kernel, initramfs, version: await this.#version(signal) }, signal);
  }

  async #version(signal: AbortSignal): Promise<string> {
    return (await findQemuVersion(this.#options.program ?? DEFAULT_QEMU, signal)) ?? "none";
  }
}
