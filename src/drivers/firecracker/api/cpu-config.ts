import { type ApiRequest, apiRequest, type Payload, payload } from "#drivers/firecracker/api/api-request.ts";
import { checked, type Problems } from "#drivers/firecracker/api/problems.ts";

const CPUID_REGISTERS = ["eax", "ebx", "ecx", "edx"] as const;
/** 0 clears a bit, 1 sets it, x leaves it; underscores are for readers. */
const BITMAP = /^0b[01x_]+$/;
const BITMAP_RULE = "a bitmap such as 0b1x0";

/** `bitmap`: "0b" and a 0, 1 or x for each bit, the highest first. */
export type CpuidModifier = {
  readonly leaf: string;
  readonly subleaf: string;
  /** KVM's flags for this leaf. */
  readonly flags: number;
  readonly modifiers: readonly {
    readonly register: (typeof CPUID_REGISTERS)[number];
    readonly bitmap: string;
  }[];
};

/** A modifier of an MSR (32 bits of address, 64 of value) or of an ARM register (64 and 128). */
export type RegisterModifier = { readonly addr: string; readonly bitmap: string };

export type CpuConfig = {
  /** Numbers of KVM capabilities as text; a "!" in front removes the capability. */
  readonly kvmCapabilities?: readonly string[] | undefined;
  /** x86_64 only. */
  readonly cpuidModifiers?: readonly CpuidModifier[] | undefined;
  /** x86_64 only. */
  readonly msrModifiers?: readonly RegisterModifier[] | undefined;
  /** aarch64 only. */
  readonly regModifiers?: readonly RegisterModifier[] | undefined;
  /** aarch64 only: bits of kvm_vcpu_init.features[index]. */
  readonly vcpuFeatures?: readonly { readonly index: number; readonly bitmap: string }[] | undefined;
};

/** Returns the body of `PUT /cpu-config`. Pure. */
export function cpuConfigPayload(config: CpuConfig): Payload {
  return payload({
    kvm_capabilities: config.kvmCapabilities,
    cpuid_modifiers: config.cpuidModifiers?.map(({ leaf, subleaf, flags, modifiers }) =>
      payload({
        leaf,
        subleaf,
        flags,
        modifiers: modifiers.map(({ register, bitmap }) => payload({ register, bitmap })),
      }),
    ),
    msr_modifiers: config.msrModifiers?.map(({ addr, bitmap }) => payload({ addr, bitmap })),
    reg_modifiers: config.regModifiers?.map(({ addr, bitmap }) => payload({ addr, bitmap })),
    vcpu_features: config.vcpuFeatures?.map(({ index, bitmap }) => payload({ index, bitmap })),
  });
}

/** Checks the rules of each modifier. Firecracker itself checks whether the CPU supports it. */
export function checkCpuConfig(problems: Problems, at: string, config: CpuConfig): void {
  for (const [i, { flags, modifiers }] of (config.cpuidModifiers ?? []).entries()) {
    problems.integer(`${at}.cpuidModifiers[${i}].flags`, flags, 0);
    for (const [j, { register, bitmap }] of modifiers.entries()) {
      const here = `${at}.cpuidModifiers[${i}].modifiers[${j}]`;
      problems.oneOf(`${here}.register`, register, CPUID_REGISTERS);
      problems.matches(`${here}.bitmap`, bitmap, BITMAP, BITMAP_RULE);
    }
  }
  for (const list of ["msrModifiers", "regModifiers", "vcpuFeatures"] as const) {
    for (const [i, { bitmap }] of (config[list] ?? []).entries()) {
      problems.matches(`${at}.${list}[${i}].bitmap`, bitmap, BITMAP, BITMAP_RULE);
    }
  }
}

/** @throws HearthError `input.invalid` */
export function putCpuConfig(config: CpuConfig): ApiRequest {
  checked((problems) => checkCpuConfig(problems, "cpuConfig", config));
  return apiRequest("PUT", "/cpu-config", cpuConfigPayload(config));
}
