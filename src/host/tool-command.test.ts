import assert from "node:assert/strict";
import { test } from "node:test";
import type { SandboxHost } from "#host/sandbox-host.ts";
import { toolCommand } from "#host/tool-command.ts";
import type { ToolPlan } from "#host/tool-command.ts";

const HOST: SandboxHost = {
  bwrap: "/usr/bin/bwrap",
  setpriv: "/usr/bin/setpriv",
  prlimit: "/usr/bin/prlimit",
  links: [["/lib", "usr/lib"]],
  systemDirs: ["/usr"],
  isRoot: true,
};
const PLAN: ToolPlan = {
  program: "/usr/bin/qemu-img",
  args: ["convert", "--", "in", "out"],
  files: [
    { path: "/vms/one/layer-0.raw", access: "read" },
    { path: "/vms/one/flat.raw", access: "write" },
  ],
  uid: 1_900_000_007,
  limits: { fileMaxBytes: 1024, memoryMaxBytes: 4096, cpuMaxSeconds: 60 },
};

test("a tool gets its own arguments at the end, behind its uid and its limits", () => {
  const argv = toolCommand(PLAN, HOST);
  assert.deepEqual(argv.slice(-5), [PLAN.program, ...PLAN.args]);
  const limits = argv.slice(argv.indexOf(HOST.prlimit) + 1, -6);
  assert.deepEqual(limits, ["--fsize=1024", "--as=4096", "--cpu=60", "--nofile=256", "--core=0"]);
  const rights = argv.slice(argv.indexOf(HOST.setpriv), argv.indexOf(HOST.prlimit));
  assert.ok(rights.includes("--no-new-privs") && rights.includes("--bounding-set=-all"));
  assert.equal(rights[rights.indexOf("--reuid") + 1], "1900000007");
});

test("a tool sees its files and the system's libraries, no network, and ends with hearthd", () => {
  const argv = toolCommand(PLAN, HOST);
  for (const word of ["--unshare-net", "--unshare-pid", "--die-with-parent", "--clearenv", "--new-session"])
    assert.ok(argv.includes(word), word);
  const binds = argv.flatMap((word, at) =>
    /^--(ro-|dev-)?bind(-try)?$/.test(word) ? [[word, argv[at + 1]]] : [],
  );
  assert.deepEqual(binds, [
    ["--ro-bind", "/usr"],
    ["--ro-bind-try", "/etc/ld.so.cache"],
    ["--ro-bind", "/vms/one/layer-0.raw"],
    ["--bind", "/vms/one/flat.raw"],
  ]);
});

test("without a separate uid a tool keeps no capability, and setpriv is not called", () => {
  const argv = toolCommand({ ...PLAN, uid: undefined }, { ...HOST, isRoot: false });
  assert.equal(argv.includes("--cap-add"), false);
  assert.equal(argv.includes(HOST.setpriv), false);
});
