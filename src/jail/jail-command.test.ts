import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { jailCommand } from "#jail/jail-command.ts";
import type { JailPlan } from "#jail/jail-command.ts";
import type { SandboxHost } from "#host/sandbox-host.ts";

const HOST: SandboxHost = {
  bwrap: "/usr/bin/bwrap",
  setpriv: "/usr/bin/setpriv",
  prlimit: "/usr/bin/prlimit",
  links: [["/lib", "usr/lib"]],
  systemDirs: ["/usr"],
  isRoot: true,
};

function plan(more: Partial<JailPlan> = {}): JailPlan {
  return {
    program: "/usr/bin/qemu-system-x86_64",
    args: ["-M", "microvm"],
    files: [
      { path: "/cache/base.ext4", access: "read" },
      { path: "/state/vms/one/disk.raw", access: "write" },
    ],
    jail: true,
    pidNamespace: true,
    network: { kind: "own" },
    uid: 1_900_000_000,
    groups: [],
    fileMaxBytes: 1024,
    ...more,
  };
}

/** Splits a command into what is between bwrap and its `--`, and the programs that follow. */
function parts(argv: readonly string[]): string[][] {
  const all: string[][] = [[]];
  for (const word of argv) {
    if (word === "--") all.push([]);
    else all.at(-1)?.push(word);
  }
  return all;
}

test("the VMM's own arguments come last, unchanged, in one process with the launchers before it", () => {
  const [bwrap = [], setpriv = [], prlimit = [], vmm] = parts(jailCommand(plan(), HOST));
  assert.deepEqual([bwrap[0], setpriv[0], prlimit[0]], [HOST.bwrap, HOST.setpriv, HOST.prlimit]);
  assert.deepEqual(vmm, ["/usr/bin/qemu-system-x86_64", "-M", "microvm"]);
});

test("the jail shows the VM's files, the system's libraries, and nothing else of the host", () => {
  const [bwrap = []] = parts(jailCommand(plan(), HOST));
  const binds = bwrap.flatMap((word, at) =>
    /^--(ro-|dev-)?bind(-try)?$/.test(word) ? [[word, bwrap[at + 1]]] : [],
  );
  assert.deepEqual(binds, [
    ["--ro-bind", "/usr"],
    ["--ro-bind-try", "/etc/ld.so.cache"],
    ["--ro-bind", "/cache/base.ext4"],
    ["--bind", "/state/vms/one/disk.raw"],
  ]);
  assert.deepEqual(bwrap.slice(bwrap.indexOf("--remount-ro"), bwrap.indexOf("--info-fd")), [
    "--remount-ro",
    "/dev",
    "--remount-ro",
    "/",
  ]);
});

test("any uid can pass through the directories on the way to a file", () => {
  const [bwrap = []] = parts(jailCommand(plan(), HOST));
  const made = bwrap.flatMap((word, at) => (word === "--dir" ? [[bwrap[at - 1], bwrap[at + 1]]] : []));
  assert.deepEqual(made, [
    ["0755", "/cache"],
    ["0755", "/etc"],
    ["0755", "/state"],
    ["0755", "/state/vms"],
    ["0755", "/state/vms/one"],
  ]);
});

describe("each option changes its own part of the command and nothing else", () => {
  const whole = jailCommand(plan(), HOST);

  test("without the pid namespace", () => {
    const argv = jailCommand(plan({ pidNamespace: false }), HOST);
    assert.deepEqual(
      whole.filter((word) => word !== "--unshare-pid" && word !== "--as-pid-1"),
      argv,
    );
  });

  test("without the jail the VMM sees the host as it is, and has a pid namespace all the same", () => {
    const argv = jailCommand(plan({ jail: false }), HOST);
    assert.deepEqual(argv.slice(0, 6), [HOST.bwrap, "--dev-bind", "/", "/", "--unshare-pid", "--as-pid-1"]);
    assert.deepEqual(parts(argv)[1], [HOST.prlimit, "--core=0"]);
    assert.deepEqual(parts(argv).at(-1), parts(whole).at(-1));
    assert.equal(argv.includes(HOST.setpriv), false);
  });

  test("without a uid for the VM no capability is kept, and setpriv is not called", () => {
    const argv = jailCommand(plan({ uid: undefined }), HOST);
    assert.equal(argv.includes("--cap-add"), false);
    assert.equal(argv.includes(HOST.setpriv), false);
  });

  test("with the host's network, its name servers are readable", () => {
    const argv = jailCommand(plan({ network: { kind: "host" } }), HOST);
    assert.equal(argv.includes("--unshare-net"), false);
    assert.ok(argv.includes("/etc/resolv.conf"));
    assert.ok(whole.includes("--unshare-net") && !whole.includes("/etc/resolv.conf"));
  });

  test("an existing network namespace is joined first, and bwrap makes none", () => {
    const network = { kind: "join", path: "/run/netns/web" } as const;
    for (const more of [
      {},
      { jail: false },
      { jailer: { program: "/usr/bin/jailer", id: "vm-one", baseDir: "/jails" } },
    ]) {
      const argv = jailCommand(plan({ ...more, network }), HOST);
      assert.deepEqual(argv.slice(0, 4), ["nsenter", "--net=/run/netns/web", "--", HOST.bwrap]);
      assert.equal(argv.includes("--unshare-net"), false);
      assert.equal(argv.includes("/etc/resolv.conf"), false, "the host's name servers are not shown");
    }
  });

  test("a user namespace that owns the network is joined with it, and the VMM has one of its own below", () => {
    const owner = { path: "/proc/42/ns/user", user: { uid: 1000, gid: 1001 } };
    const network = { kind: "join", path: "/proc/42/ns/net", owner } as const;
    const argv = jailCommand(plan({ network, uid: undefined }), HOST);
    const joined = ["nsenter", "--user=/proc/42/ns/user", "--preserve-credentials", "--net=/proc/42/ns/net"];
    const below = ["--unshare-user", "--uid", "1000", "--gid", "1001"];
    assert.deepEqual(argv.slice(0, 11), [...joined, "--", HOST.bwrap, ...below]);
    assert.equal(argv.includes("--unshare-net"), false);
    assert.equal(whole.includes("--unshare-user"), false);
  });

  test("the VMM has only the groups of its devices", () => {
    const argv = jailCommand(plan({ groups: [108] }), HOST);
    assert.equal(argv[argv.indexOf("--groups") + 1], "108");
    assert.ok(whole.includes("--clear-groups"));
  });
});

describe("Firecracker's jailer", () => {
  const jailer = { program: "/usr/bin/jailer", id: "vm-one", baseDir: "/jails" };
  const [, prlimit = [], own = []] = parts(
    jailCommand(plan({ program: "/usr/bin/firecracker", jailer }), HOST),
  );

  test("runs with a core limit of 0, which it has no option for", () => {
    assert.deepEqual(prlimit, [HOST.prlimit, "--core=0"]);
    assert.equal(own[0], jailer.program);
  });

  test("gets a parent cgroup that does not exist, so that it leaves the VM's cgroup for no other", () => {
    assert.equal(own[own.indexOf("--cgroup-version") + 1], "2");
    assert.equal(own[own.indexOf("--parent-cgroup") + 1], "hearth/none");
    assert.equal(own.includes("--cgroup"), false);
  });
});

test("a path that is not absolute, or contains a NUL, is a bug", () => {
  for (const path of ["disk.raw", "", "/a\0b"]) {
    const files = [{ path, access: "read" }] as const;
    assert.throws(() => jailCommand(plan({ files }), HOST), { code: "internal.bug" });
  }
});

describe("a file with another path in the jail", () => {
  const files = [{ path: "/run/one", access: "write", at: "/vm/here" }] as const;

  test("is mounted there, below directories that any uid can pass through", () => {
    const [bwrap = []] = parts(jailCommand(plan({ files }), HOST));
    assert.deepEqual(bwrap.slice(bwrap.indexOf("--bind"), bwrap.indexOf("--bind") + 3), [
      "--bind",
      "/run/one",
      "/vm/here",
    ]);
    const made = bwrap.flatMap((word, at) => (word === "--dir" ? [bwrap[at + 1]] : []));
    assert.deepEqual(made, ["/etc", "/vm"]);
  });

  test("is mounted there in the root that a jailer makes", () => {
    const jailer = { program: "/usr/bin/jailer", id: "one", baseDir: "/jails" };
    const [bwrap = []] = parts(jailCommand(plan({ program: "/usr/bin/firecracker", files, jailer }), HOST));
    assert.equal(bwrap[bwrap.indexOf("--bind") + 2], "/jails/firecracker/one/root/vm/here");
  });

  test("must have an absolute path there", () => {
    const relative = [{ path: "/run/one", access: "write", at: "vm" }] as const;
    assert.throws(() => jailCommand(plan({ files: relative }), HOST), { code: "internal.bug" });
  });
});
