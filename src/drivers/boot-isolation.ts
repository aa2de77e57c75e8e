import type { ProcessRef } from "#host/procfs.ts";
import type { NetworkNamespace } from "#model/isolation.ts";

/**
 * The walls that the VMM of one boot gets: what was chosen, as far as this host has it. What they take of
 * privileged work is done already, or is done by the functions in here.
 */
export type BootIsolation = {
  readonly jail: boolean;
  readonly pidNamespace: boolean;
  readonly seccomp: boolean;
  readonly network: NetworkNamespace;
  /** The VMM's uid and gid, which its disk and run folder belong to; undefined: hearthd's own. Only with `jail`. */
  readonly uid?: number | undefined;
  /** Of this VM alone, for a VMM whose launcher makes a root folder for it; removed when the VMM is gone. */
  readonly jailDir: string;
  /** The folder of the cgroup that is made for it. */
  readonly cgroup?: string | undefined;
  /** Sentences: what is not as chosen, or not as it should be, with the reason. */
  readonly gaps: readonly string[];
  /** Puts the VMM into its cgroup; to be called before it runs. Does nothing where there is none. */
  join(vmm: ProcessRef): Promise<void>;
  /** Takes the run folder back, once the VMM has made its sockets and before the guest runs. */
  seal(): Promise<void>;
};

/** No walls at all: for a VMM that runs nothing of a user's. */
export const UNCONFINED: BootIsolation = {
  jail: false,
  pidNamespace: false,
  seccomp: true,
  network: { kind: "own" },
  jailDir: "/nonexistent",
  gaps: [],
  async join() {},
  async seal() {},
};
