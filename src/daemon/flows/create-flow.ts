import type { Flow } from "#daemon/flows/flow.ts";
import type { Host } from "#daemon/host.ts";
import type { NewVm } from "#daemon/store/store.ts";
import { diskFrom, makeBlanks } from "#daemon/vm/boot-disks.ts";
import { vmPaths, vmsDir } from "#daemon/store/paths.ts";
import { assertVolumes } from "#daemon/vm/volume-users.ts";
import type { VmId } from "#model/ids.ts";

/** Holds what the undo of a creation needs: it is all that is known after a crash. */
export type CreateLeft = { readonly host: Host; readonly id: VmId };

export type CreateContext = CreateLeft & {
  readonly vm: NewVm;
  /** The start that follows makes the disk: it knows what the VM begins as. */
  readonly startsNow?: boolean | undefined;
  /** Puts a disk that is there already into the VM's directory. */
  readonly takeDisk?: ((stateDir: string) => Promise<void>) | undefined;
  readonly signal: AbortSignal;
};

/** Makes a VM's row, directory and disk. Little is copied: the base image is shared, the disk sparse or in layers. */
export const CREATE_VM: Flow<CreateContext, CreateLeft> = {
  kind: "create",
  afterCrash: "unwind",
  steps: [
    {
      name: "take the name",
      run: async ({ host, vm }) => {
        // From the last line on, none of them can be removed.
        if (vm.spec.origin === undefined) host.images.assertThere(vm.imageDigest);
        assertVolumes(host, vm.spec.volumes);
        host.store.insertVm(vm);
      },
      undo: async ({ host, id }) => host.store.deleteVm(id),
      undoLast: true,
    },
    {
      name: "make the folder",
      run: ({ host, id }) => host.files.makeDir(vmPaths(host.dirs, id).stateDir),
      undo: ({ host, id }) => host.files.removeTree(vmsDir(host.dirs), vmPaths(host.dirs, id).stateDir),
    },
    {
      name: "make the disk",
      // Its undo is the directory's.
      run: async ({ host, id, vm, startsNow, takeDisk, signal }) => {
        const { stateDir } = vmPaths(host.dirs, id);
        if (takeDisk !== undefined) return takeDisk(stateDir);
        await makeBlanks(host, vm);
        if (startsNow === true) return;
        const { origin, diskBytes } = vm.spec;
        if (origin === undefined) return host.disks.create(stateDir, diskBytes, signal);
        const snapshot = host.snapshots.known(origin);
        // The disk of a VM that sleeps is its own.
        if (snapshot.kind === "suspended") return host.disks.create(stateDir, diskBytes, signal);
        await diskFrom(host, stateDir, snapshot, signal);
      },
    },
  ],
};
