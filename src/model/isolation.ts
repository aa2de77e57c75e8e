/** Which walls stand around a VM's VMM. Chosen when the VM is made, and the same at every start. VS-013, VS-017. */
export type Isolation = {
  /** A file system with only the VM's own files, an own uid, no capabilities, resource limits, own namespaces. */
  readonly jail: boolean;
  /** The VMM is alone in its pid namespace: it can send no other process a signal. */
  readonly pidNamespace: boolean;
  /** Limits on CPU time, memory and tasks. */
  readonly cgroup: boolean;
  /** The VMM's own filter of system calls. */
  readonly seccomp: boolean;
};

/** What a VM gets unless somebody says otherwise, and what VMs have that were stored without a choice. */
export const FULL_ISOLATION: Isolation = { jail: true, pidNamespace: true, cgroup: true, seccomp: true };

/**
 * The network namespace that a VMM runs in: one of its own with nothing in it, the host's, or one that is there already,
 * by a path such as /run/netns/web. `own` takes a jail.
 */
export type NetworkNamespace =
  { readonly kind: "own" } | { readonly kind: "host" } | { readonly kind: "join"; readonly path: string };

/** What a VMM that runs really has; stored when it started. `show` prints it and nothing else. */
export type IsolationInForce = {
  readonly jail: boolean;
  /** Of the VMM, and its gid; undefined where it is hearthd's own. */
  readonly uid?: number | undefined;
  readonly pidNamespace: boolean;
  readonly network: NetworkNamespace;
  readonly seccomp: boolean;
  /** The cgroup's directory; undefined where there is none. */
  readonly cgroup?: string | undefined;
  /** Sentences: what was asked for, or is usual, and is not in force on this host, with the reason. */
  readonly gaps: readonly string[];
};
