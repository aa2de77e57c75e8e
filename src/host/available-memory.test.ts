import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { availableMemoryBytes } from "#host/available-memory.ts";

function rootWith(t: TestContext, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), "hearth-memory-"));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const MEMINFO = "MemTotal:       8000 kB\nMemAvailable:   4000 kB\n";

test("without cgroups, the kernel's estimate is available", (t) => {
  assert.equal(availableMemoryBytes(rootWith(t, { "proc/meminfo": MEMINFO })), 4_096_000);
});

test("the smallest limit of the cgroups above applies, and their page cache is free", (t) => {
  const root = rootWith(t, {
    "proc/meminfo": MEMINFO,
    "proc/self/cgroup": "0::/outer/inner\n",
    "sys/fs/cgroup/outer/inner/memory.max": "max\n",
    "sys/fs/cgroup/outer/memory.max": "2000000\n",
    "sys/fs/cgroup/outer/memory.current": "1500000\n",
    "sys/fs/cgroup/outer/memory.stat": "anon 900000\ninactive_file 600000\n",
  });
  assert.equal(availableMemoryBytes(root), 1_100_000);
});

test("a cgroup that is over its limit leaves nothing", (t) => {
  const root = rootWith(t, {
    "proc/meminfo": MEMINFO,
    "proc/self/cgroup": "0::/full\n",
    "sys/fs/cgroup/full/memory.max": "1000\n",
    "sys/fs/cgroup/full/memory.current": "5000\n",
  });
  assert.equal(availableMemoryBytes(root), 0);
});

test("this host has some memory available", () => {
  assert.ok(availableMemoryBytes() > 0);
});
