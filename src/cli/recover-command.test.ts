import assert from "node:assert/strict";
import { existsSync, mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { lostFoundDir } from "#daemon/lifecycle/lost-found.ts";
import { runCli } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";
import type { ServedDaemon } from "#testing/served-daemon.ts";

const LOST = "vm-aaaaaaaaaaaa";
const DISK_BYTES = 8 * 2 ** 30;

/** Puts a VM's directory with an empty disk into lost+found. */
function loseVm({ host }: ServedDaemon): string {
  const path = join(lostFoundDir(host.dirs), "2026-11-27", "vms", LOST);
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "disk.raw"), "");
  truncateSync(join(path, "disk.raw"), DISK_BYTES);
  return path;
}

test("system recover lists lost+found, and says when it is empty", async (t) => {
  const served = await serveDaemon(t);
  assert.match((await runCli(served, ["system", "recover"])).stderr, /lost\+found is empty/);
  const path = loseVm(served);
  const { stdout } = await runCli(served, ["system", "recover"]);
  assert.equal(
    stdout.replaceAll(/ +/g, " "),
    `NAME KIND FOUND DISK PATH\n${LOST} vms 2026-11-27 yes ${path}\n`,
  );
  const json = await runCli(served, ["system", "recover", "--json"]);
  assert.deepEqual(JSON.parse(json.stdout), [
    { kind: "vms", name: LOST, day: "2026-11-27", path, hasDisk: true },
  ]);
});

test("system recover creates a VM from a disk, and requires the disk, a name and an image", async (t) => {
  const served = await serveDaemon(t);
  const path = loseVm(served);
  const half = await runCli(served, ["system", "recover", "--vm", LOST]);
  assert.equal(half.code, 2);
  assert.match(half.stderr, /--vm, --name and IMAGE must be given/);
  const words = ["system", "recover", "--vm", LOST, "--name", "web", "debian"];
  const { code, stdout, stderr } = await runCli(served, words);
  assert.deepEqual([code, stdout], [0, "web\n"]);
  assert.match(stderr, /Next: hearth start web/);
  assert.equal(served.vm("web")?.spec.diskBytes, DISK_BYTES);
  assert.equal(existsSync(join(path, "disk.raw")), false);
});
