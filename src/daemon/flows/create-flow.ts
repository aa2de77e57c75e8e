import type { Flow } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import type { NewVm } from "#daemon/store/store.ts";
import { diskFrom, makePlaceholders } from "#daemon/vm/boot-disks.ts";
import { vmPaths, vmsDir } from "#daemon/store/paths.ts";
import { assertPortsFree } from "#daemon/vm/published-ports.ts";
import { assertVolumes } from "#daemon/vm/volume-users.ts";
import type { VmId } from "#model/ids.ts";

/** The input of the undo: all that is known after a crash. */
export type CreateLeft = { readonly host: Host; readonly id: VmId };

export type CreateContext = CreateLeft & {
  readonly vm: NewVm;
  /** True when a start follows at once: it makes the disk, because it chooses the start source. */
  readonly startsNow?: boolean | undefined;
  /** Puts an existing disk into the VM's directory. */
  readonly takeDisk?: ((stateDir: string) => Promise<void>) | undefined;
  readonly signal: AbortSignal;
};

/**
 * Creates a VM's row, directory and disk. Little is copied: VMs share the base image, and the disk is sparse or
 * layered.
 */
export const CREATE_VM: Flow<CreateContext, CreateLeft> = {
  kind: "create",
  afterCrash: "unwind",
  steps: [
    {
      name: "reserve the name",
      run: async ({ host, vm }) => {
        // Checked in the tick that inserts the row: once it is stored, none of these can be removed.
        if (vm.spec.sourceSnapshot === undefined) host.images.assertThere(vm.imageDigest);
        assertVolumes(host, vm.spec.volumes);
        assertPortsFree(host, vm.id, vm.spec.publish);
        host.store.insertVm(vm);
      },
      undo: async ({ host, id }) => host.store.deleteVm(id),
      undoLast: true,
    },
    {
      name: "make the directory",
      run: ({ host, id }) => host.files.makeDir(vmPaths(host.dirs, id).stateDir),
      undo: ({ host, id }) => host.files.removeTree(vmsDir(host.dirs), vmPaths(host.dirs, id).stateDir),
    },
    {
      name: "make the disk",
      // Needs no undo: that of the directory removes it.
      run: async ({ host, id, vm, startsNow, takeDisk, signal }) => {
        const { stateDir } = vmPaths(host.dirs, id);
        if (takeDisk !== undefined) return takeDisk(stateDir);
        await makePlaceholders(host, vm);
        if (startsNow === true) return;
        const { sourceSnapshot, diskBytes } = vm.spec;
        if (sourceSnapshot === undefined) return host.disks.create(stateDir, diskBytes, signal);
        const snapshot = host.snapshots.known(sourceSnapshot);
        // This snapshot has no disk, which stays with the suspended VM: the internal VM that loads it gets an empty
        // one.
        if (snapshot.kind === "suspended") return host.disks.create(stateDir, diskBytes, signal);
        await diskFrom(host, stateDir, snapshot, signal);
      },
    },
  ],
};
