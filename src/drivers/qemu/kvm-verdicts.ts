import { rmSync } from "node:fs";
import type { Accel } from "#drivers/qemu/qemu-driver.ts";
import { DEFAULT_QEMU, findQemuVersion } from "#drivers/qemu/installed-qemu.ts";
import { findKvmVerdict, kvmDeviceDenial, probeKvm } from "#drivers/qemu/probe-kvm.ts";
import type { KvmProbe, KvmVerdict } from "#drivers/qemu/probe-kvm.ts";

/** The files of a guest that proves that KVM works. */
export type ProofBoot = Pick<KvmProbe, "kernel" | "initramfs">;

export type KvmVerdictsOptions = {
  /** A file in the cache directory, which exists. */
  readonly cacheFile: string;
  readonly program?: string | undefined;
} & Partial<Pick<KvmProbe, "kvmDevice" | "readyLine" | "silenceMs">>;

/**
 * Knows whether KVM works on this host. Probes it once, with a boot, however many callers want to know at the same
 * time.
 */
export class KvmVerdicts {
  readonly #options: KvmVerdictsOptions;
  #probing: Promise<KvmVerdict> | undefined;

  constructor(options: KvmVerdictsOptions) {
    this.#options = options;
  }

  /**
   * Returns the verdict, by a probe if there is none. With `fresh` a stored verdict is discarded. @throws the reason of
   * `signal`
   */
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

  /**
   * Returns the accelerator of a VM that is about to boot. Its own kernel is used for the probe, if there was none yet.
   */
  async accelFor(boot: ProofBoot, signal: AbortSignal): Promise<Accel> {
    return (await this.decide(boot, false, signal)).works ? "kvm" : "tcg";
  }

  /** Returns the verdict without a boot; undefined as long as there was no probe. */
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

  /** Returns what a VM would run with now. Emulation is assumed as long as there was no probe. */
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
