import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { Firecracker } from "#api/wire.ts";
import { Firecrackers } from "#drivers/firecracker/install/firecrackers.ts";
import { runCli } from "#testing/cli-run.ts";
import { releaseMembers, ReleaseServer, versionScript } from "#testing/release-server.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

/** Starts a hearthd whose host has an old Firecracker in PATH, and a site with two newer ones. */
async function setUp(t: TestContext) {
  const site = await ReleaseServer.start();
  for (const version of ["1.13.2", "1.13.4"]) await site.publish(version, releaseMembers(version));
  const dir = mkdtempSync(join(tmpdir(), "hearth-firecracker-"));
  const old = join(dir, "firecracker");
  writeFileSync(old, versionScript("Firecracker", "1.4.0"));
  writeFileSync(join(dir, "jailer"), versionScript("Jailer", "1.4.0"));
  for (const name of ["firecracker", "jailer"]) chmodSync(join(dir, name), 0o755);
  const cacheDir = join(dir, "cache");
  const firecrackers = new Firecrackers({ cacheDir, releaseUrl: site.url, path: dir });
  const served = await serveDaemon(t, { firecrackers });
  t.after(async () => {
    await site[Symbol.asyncDispose]();
    rmSync(dir, { recursive: true });
  });
  return { served, old, cacheDir };
}

const options = { skip: process.arch !== "x64" && "the site's releases are for x64" };

test("firecracker install prints the version, and its path", options, async (t) => {
  const { served, cacheDir } = await setUp(t);
  const newest = await runCli(served, ["firecracker", "install", "--quiet"]);
  assert.deepEqual(newest, { code: 0, stdout: "1.13.4\n", stderr: "" });
  const again = await runCli(served, ["firecracker", "install"]);
  assert.match(again.stderr, new RegExp(`^Already installed: ${cacheDir}/.*/firecracker$`, "m"));
  const named = await runCli(served, ["firecracker", "install", "--version", "1.13.2", "--json"]);
  assert.equal(JSON.parse(named.stdout).version, "1.13.2");
});

test(
  "firecracker ls marks the one that is used, and gives the reason for one that is refused",
  options,
  async (t) => {
    const { served, old, cacheDir } = await setUp(t);
    await runCli(served, ["firecracker", "install", "--version", "1.13.2"]);
    const { code, stdout, stderr } = await runCli(served, ["firecracker", "ls"]);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^\\* +1\\.13\\.2 +installed +${cacheDir}/.*/firecracker$`, "m"));
    assert.match(stdout, new RegExp(`^ +refused +path +${old}$`, "m"));
    assert.match(stderr, /1\.4\.0 is too old\..* Install a verified one: hearth firecracker install/);
    const all = JSON.parse((await runCli(served, ["firecracker", "ls", "--json"])).stdout) as Firecracker[];
    assert.deepEqual(
      all.map(({ used }) => used),
      [false, true],
    );
  },
);
