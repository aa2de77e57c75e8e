import type { DoctorCheck } from "#api/wire.ts";
import type { Images } from "#daemon/host.ts";
import type { KvmVerdicts } from "#drivers/qemu/kvm-verdicts.ts";

const FIX =
  "Use a host with hardware virtualization, and make /dev/kvm accessible to your user: usermod -aG kvm USER, then log in again.";

/**
 * Checks KVM, by booting a guest, never by opening the device alone. If there is no kernel to boot yet, the first run
 * decides.
 */
export async function checkKvm(
  verdicts: KvmVerdicts,
  images: Images,
  fresh: boolean,
  signal: AbortSignal,
): Promise<DoctorCheck> {
  const [image] = await images.list();
  const verdict =
    image === undefined
      ? await verdicts.known(signal)
      : await verdicts.decide(await images.bootSet(image.digest, {}, signal), fresh, signal);
  if (verdict === undefined)
    return { name: "kvm", verdict: "pass", found: "not known yet; the first run boots a guest to find out" };
  if (verdict.works) return { name: "kvm", verdict: "pass", found: verdict.reason };
  return {
    name: "kvm",
    verdict: "warn",
    found: `${verdict.reason} Guests are emulated, which is slower.`,
    fix: FIX,
  };
}
