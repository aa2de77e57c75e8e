import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { missingCgroups, joinCgroup, makeCgroup, prepareCgroups, removeCgroup } from "#host/cgroup.ts";

/** Makes a tree with the files that the kernel would make. Written values can be read back. */
function makeTree(t: TestContext, controllers: string | undefined): string {
  const root = mkdtempSync(join(tmpdir(), "hearth-cgroup-"));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  if (controllers !== undefined) makeGroup(root, controllers);
  return root;
}

function makeGroup(dir: string, controllers: string): void {
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, "cgroup.controllers"), controllers);
  for (const name of ["cgroup.subtree_control", "cgroup.procs", "cpu.max", "memory.max", "pids.max"])
    writeFileSync(join(dir, name), "");
}

function read(...path: string[]): string {
  return readFileSync(join(...path), "utf8");
}

test("a host with the controllers lacks nothing; with cgroup v1 or without a controller, the reason names what it lacks", (t) => {
  assert.equal(missingCgroups(makeTree(t, "cpuset cpu io memory pids\n")), undefined);
  assert.match(missingCgroups(makeTree(t, undefined)) ?? "", /no cgroup v2/);
  assert.match(missingCgroups(makeTree(t, "cpu pids")) ?? "", /lacks the controllers: memory$/);
});

test("controllers are enabled level by level, and only those that are not enabled yet", (t) => {
  const root = makeTree(t, "cpu memory pids");
  writeFileSync(join(root, "cgroup.subtree_control"), "memory");
  makeGroup(join(root, "ours"), "cpu memory pids");
  prepareCgroups(root, "ours");
  assert.equal(read(root, "cgroup.subtree_control"), "+cpu +pids");
  assert.equal(read(root, "ours", "cgroup.subtree_control"), "+cpu +memory +pids");
});

test("cpu.max is whole CPUs of 100 ms, memory.max and pids.max are as given", (t) => {
  const root = makeTree(t, "cpu memory pids");
  makeGroup(join(root, "one"), "");
  makeCgroup(join(root, "one"), { cpus: 3, memoryBytes: 123_456, tasks: 77 });
  assert.equal(read(root, "one", "cpu.max"), "300000 100000");
  assert.equal(read(root, "one", "memory.max"), "123456");
  assert.equal(read(root, "one", "pids.max"), "77");
  joinCgroup(join(root, "one"), 4711);
  assert.equal(read(root, "one", "cgroup.procs"), "4711");
});

test("a cgroup may not swap, and a kernel without swap accounting gets no such limit", (t) => {
  const root = makeTree(t, "cpu memory pids");
  makeGroup(join(root, "one"), "");
  makeCgroup(join(root, "one"), { cpus: 1, memoryBytes: 1, tasks: 1 });
  assert.equal(existsSync(join(root, "one", "memory.swap.max")), false);
  writeFileSync(join(root, "one", "memory.swap.max"), "");
  makeCgroup(join(root, "one"), { cpus: 1, memoryBytes: 1, tasks: 1 });
  assert.equal(read(root, "one", "memory.swap.max"), "0");
});

test("a limit that the kernel refuses is an error that names the flag to do without cgroups", (t) => {
  const root = makeTree(t, "cpu memory pids");
  mkdirSync(join(root, "one"));
  assert.throws(() => makeCgroup(join(root, "one"), { cpus: 1, memoryBytes: 1, tasks: 1 }), {
    code: "host.tool_failed",
    hint: /--no-cgroup/,
  });
});

test("removing a missing cgroup succeeds", async (t) => {
  const root = makeTree(t, "cpu memory pids");
  await removeCgroup(join(root, "none"), new AbortController().signal);
});

test("removing an empty cgroup removes those below it", async (t) => {
  const root = makeTree(t, undefined);
  mkdirSync(join(root, "one", "below"), { recursive: true });
  await removeCgroup(join(root, "one"), new AbortController().signal);
  assert.throws(() => read(root, "one"), { code: "ENOENT" });
});
