import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { removeTree } from "#host/managed-path.ts";
import { run } from "#host/run.ts";

type Place = { readonly dir: string; readonly root: string; readonly outside: string };

/** Makes `root/vm/disk`, which may be removed, and `outside/precious`, which may not. */
function makePlace(t: TestContext): Place {
  const dir = mkdtempSync(join(tmpdir(), "hearth-managed-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const place = { dir, root: join(dir, "root"), outside: join(dir, "outside") };
  mkdirSync(join(place.root, "vm"), { recursive: true });
  mkdirSync(place.outside);
  writeFileSync(join(place.root, "vm", "disk"), "");
  writeFileSync(join(place.outside, "precious"), "");
  return place;
}

async function assertRefused(root: string, path: string): Promise<void> {
  await assert.rejects(removeTree(root, path), { code: "path.unmanaged" }, `${path} in ${root}`);
}

test("a directory inside the root is removed with its content, and removing it again succeeds", async (t) => {
  const { root } = makePlace(t);
  await removeTree(root, join(root, "vm"));
  assert.equal(existsSync(join(root, "vm")), false);
  assert.equal(existsSync(root), true);
  await removeTree(root, join(root, "vm"));
});

test("a path that is not inside the root is refused, and nothing is removed", async (t) => {
  const { dir, root, outside } = makePlace(t);
  const paths = [
    "/",
    "",
    ".",
    "vm",
    "/etc",
    dir,
    outside,
    join(outside, "precious"),
    `${root}-other`,
    `${root}2/x`,
  ];
  for (const path of paths) await assertRefused(root, path);
  assert.equal(existsSync(join(outside, "precious")), true);
  assert.equal(existsSync("/etc"), true);
});

test("the root itself is refused in every spelling", async (t) => {
  const { root } = makePlace(t);
  for (const path of [root, `${root}/`, `${root}//`, `${root}/.`, `${root}/vm/..`])
    await assertRefused(root, path);
  assert.equal(existsSync(join(root, "vm", "disk")), true);
});

test("`..` is refused, even where it leads back inside, and so is a NUL", async (t) => {
  const { root } = makePlace(t);
  for (const path of [`${root}/../outside`, `${root}/vm/../../outside`, `${root}/x/../vm`, `${root}/vm\0`]) {
    await assertRefused(root, path);
  }
});

test("the host's root, and a root that is no absolute path, manage nothing", async (t) => {
  const { outside } = makePlace(t);
  for (const root of ["/", "//", "/..", "", ".", "relative"]) await assertRefused(root, outside);
  assert.equal(existsSync(outside), true);
});

test("a link on the way that leads out of the root is refused", async (t) => {
  const { root, outside } = makePlace(t);
  symlinkSync(outside, join(root, "escape"));
  await assertRefused(root, join(root, "escape", "precious"));
  assert.equal(existsSync(join(outside, "precious")), true);
});

test("a link itself is removed, never its target", async (t) => {
  const { root, outside } = makePlace(t);
  symlinkSync(outside, join(root, "link"));
  symlinkSync(outside, join(root, "vm", "link"));
  await removeTree(root, join(root, "link"));
  await removeTree(root, join(root, "vm"));
  assert.equal(existsSync(join(root, "link")), false);
  assert.equal(existsSync(join(outside, "precious")), true);
});

test("a root that is reached through a link is still the root", async (t) => {
  const { dir, root } = makePlace(t);
  symlinkSync(root, join(dir, "home"));
  await removeTree(join(dir, "home"), join(dir, "home", "vm"));
  assert.equal(existsSync(join(root, "vm")), false);
  await assertRefused(join(dir, "home"), join(dir, "home"));
});

test("nothing is removed from below a mount point", { skip: process.getuid?.() !== 0 }, async (t) => {
  const { root } = makePlace(t);
  const mounted = join(root, "vm", "a b");
  mkdirSync(mounted);
  const options = { timeoutMs: 10_000, signal: t.signal };
  const mount = await run("mount", ["-t", "tmpfs", "tmpfs", mounted], options);
  if (!mount.ok) return t.skip("this machine does not let us mount");
  try {
    writeFileSync(join(mounted, "kept"), "");
    await assertRefused(root, mounted);
    await assertRefused(root, join(root, "vm"));
    assert.equal(existsSync(join(mounted, "kept")), true);
    assert.equal(existsSync(join(root, "vm", "disk")), true);
  } finally {
    await run("umount", [mounted], { timeoutMs: 10_000, signal: new AbortController().signal });
  }
});
