/**
 * Makes a new VM with the disk of a VM in `lost+found`.
 *
 *  1. Prove all layers of the disk, as those of any disk that something else may have written.
 *  2. Create the VM, and link the disk's files into its directory (hard links), so that a creation that is undone loses
 *     nothing. The VM is `stopped`, so that its first start keeps the disk.
 *  3. Remove the files' names in `lost+found`. What else was in the directory, such as the console's log, stays there.
 */
import { existsSync } from "node:fs";
import { link, lstat, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import type { RecoverVm } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import { completeSpec } from "#daemon/spec/complete-spec.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { findLostVm } from "#daemon/lifecycle/lost-found.ts";
import type { LostEntry } from "#daemon/lifecycle/lost-found.ts";
import type { Call } from "#daemon/vm/vms.ts";
import { syncPath } from "#host/atomic-file.ts";
import { parseVmName, vmIdFrom } from "#model/ids.ts";
import type { VmRecord } from "#model/vm.ts";
import { findDisk, hasDisk } from "#storage/disk-layout.ts";
import { proveDisk } from "#storage/proven-disk.ts";

/**
 * @param name of the VM's directory in `lost+found`
 * @throws HearthError `vm.not_found`, `disk.missing`, `disk.corrupt`, `file.refused` for a disk that another VM has,
 * and what `Vms.make` throws
 */
export async function recoverLostVm(
  { host, vms }: Pick<Daemon, "host" | "vms">,
  name: string,
  request: RecoverVm,
  call: Call,
): Promise<VmRecord> {
  const lost = await findLostVm(host, name);
  const files = await diskFiles(lost);
  const { sizeBytes } = await proveDisk(files);
  const { spec, imageDigest } = await completeSpec(host, request, call);
  const vm = {
    id: vmIdFrom(host.random(12)),
    name: parseVmName(request.name),
    spec: { ...spec, diskBytes: sizeBytes },
    imageDigest,
    state: { phase: "stopped", exit: { reason: "unseen", atMs: host.now() } },
    ephemeral: false,
  } as const;
  const made = await vms.make(vm, call, { takeDisk: (stateDir) => linkFiles(files, stateDir) });
  for (const file of files) await rm(file);
  await syncPath(lost.path);
  host.log.child({ vm: made.id }).event("lost.recovered", { path: lost.path });
  return made;
}

/**
 * Returns the files of the disk, the lowest layer first. If a crash has lost the top layer, the VM's start makes a new
 * one.
 */
async function diskFiles(lost: LostEntry): Promise<readonly string[]> {
  if (!hasDisk(lost.path))
    throw new HearthError("disk.missing", `Cannot recover ${lost.name}: there is no disk in ${lost.path}.`);
  const { path, layers } = findDisk(lost.path);
  if (!existsSync(path)) return layers;
  if ((await lstat(path)).nlink === 1) return [...layers, path];
  throw new HearthError("file.refused", `Cannot recover ${lost.name}: another VM already has its disk.`, {
    hint: "`hearth ls` lists the VMs. Two VMs on one disk would damage it.",
  });
}

async function linkFiles(files: readonly string[], stateDir: string): Promise<void> {
  for (const file of files) await link(file, join(stateDir, basename(file)));
  await syncPath(stateDir);
}
