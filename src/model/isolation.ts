/** The isolation of a VM's VMM. Chosen when the VM is created, and the same at every start. */
export type Isolation = {
  /**
   * A file system with only the VM's own files, a separate uid, no capabilities, resource limits, separate namespaces.
   */
  readonly jail: boolean;
  /** The VMM is alone in its pid namespace: it can send no other process a signal. */
  readonly pidNamespace: boolean;
  /** Limits on CPU time, memory and tasks. */
  readonly cgroup: boolean;
  /** The VMM's own filter of system calls. */
  readonly seccomp: boolean;
};

/** The isolation of VMs whose user chose none, and of VMs stored before there was a choice. */
export const FULL_ISOLATION: Isolation = { jail: true, pidNamespace: true, cgroup: true, seccomp: true };

/**
 * The network namespace of a VMM: a new empty one (`own`, requires the jail), the host's, or an existing one at a path
 * such as /run/netns/web (`join`).
 */
export type NetworkNamespace =
  { readonly kind: "own" } | { readonly kind: "host" } | { readonly kind: "join"; readonly path: string };

/** The isolation that a running VMM really has, stored when it started. `hearth show` prints this. */
export type IsolationInForce = {
  readonly jail: boolean;
  /** The uid and gid of the VMM; undefined if they are hearthd's. */
  readonly uid?: number | undefined;
  readonly pidNamespace: boolean;
  readonly network: NetworkNamespace;
  readonly seccomp: boolean;
  /** The cgroup's directory; undefined if there is none. */
  readonly cgroup?: string | undefined;
  /** Sentences: each requested or usual isolation that is not in force on this host, and why. */
  readonly gaps: readonly string[];
};
