/** VMs of the lab's own image, for measuring a driver without hearthd around it. */
import { chownSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { SILENT } from "#base/log.ts";
import { GIB, MIB } from "#base/sizes.ts";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import type { BootPlan } from "#drivers/vm-driver.ts";
import { ImageCache } from "#images/image-cache.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import { createDisk } from "#storage/disks.ts";

const ROOT = join(import.meta.dirname, "..");
/** Nothing else in the lab has it. */
const UID = 1_999_000_000;

/** As the commands that are measured beside it ask for. */
export const SHAPE = { cpus: 1, memoryBytes: 256 * MIB, diskBytes: 8 * GIB } as const;

/** A plan, and the directory that goes when it is disposed of. */
export type PlannedVm = Disposable & { readonly plan: BootPlan };

/** Gives a plan's disks to the VMM again after they were replaced. */
export function ownedByVmm(plan: BootPlan): BootPlan {
  const { uid } = plan.isolation;
  for (const { path, readOnly } of plan.disks) if (!readOnly && uid !== undefined) chownSync(path, uid, uid);
  return plan;
}

/** Plans of `debian`, each with a new disk. */
export class FirecrackerPlans {
  readonly #cache: ImageCache;
  readonly #dir: string;

  constructor(cacheDir: string, dir: string) {
    this.#dir = dir;
    this.#cache = new ImageCache({
      cacheDir,
      agentPath: (arch) => join(ROOT, "build/agent", `hearth-agent-${arch}`),
      log: SILENT,
    });
  }

  async make(jail: boolean): Promise<PlannedVm> {
    const { signal } = new AbortController();
    const { digest } = await this.#cache.ensure(parseImageRef("debian"), () => {}, signal);
    const boot = await this.#cache.bootSet(digest, {}, signal);
    const dir = mkdtempSync(join(this.#dir, "vm-"));
    const runDir = join(dir, "run");
    const saveDir = join(dir, "save");
    for (const own of [runDir, saveDir]) mkdirSync(own, { mode: 0o700 });
    const disk = join(dir, "disk.raw");
    await createDisk(disk, SHAPE.diskBytes, signal);
    if (jail) for (const path of [runDir, saveDir, disk]) chownSync(path, UID, UID);
    const { modules } = boot;
    const plan: BootPlan = {
      id: vmIdFrom(Buffer.alloc(12, 1)),
      name: parseVmName("bare"),
      stateDir: dir,
      runDir,
      saveDir,
      kernel: await this.#cache.kernelElf(digest, {}, signal),
      initramfs: boot.initramfs,
      kernelArgs: [
        "hearth.root=overlay",
        "hearth.init=agent",
        "hearth.vm=bare",
        ...(modules === undefined ? [] : ["hearth.modules=/dev/vdc"]),
      ],
      disks: [
        { id: "base", path: boot.base, format: "raw", readOnly: true },
        { id: "own", path: disk, format: "raw", readOnly: false },
        ...(modules === undefined
          ? []
          : [{ id: "modules", path: modules, format: "raw", readOnly: true } as const]),
      ],
      cpus: SHAPE.cpus,
      memoryBytes: SHAPE.memoryBytes,
      nics: [],
      init: "agent",
      nested: false,
      isolation: jail
        ? { ...NO_ISOLATION, jail: true, pidNamespace: true, uid: UID, jailDir: join(dir, "jail") }
        : NO_ISOLATION,
    };
    return { plan, [Symbol.dispose]: () => rmSync(dir, { recursive: true }) };
  }
}
