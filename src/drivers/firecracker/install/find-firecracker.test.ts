import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { findFirecracker, listFirecrackers } from "#drivers/firecracker/install/find-firecracker.ts";
import { formatInstalledManifest } from "#drivers/firecracker/install/installed-releases.ts";
import { sha256 } from "#host/hash-file.ts";
import { versionScript } from "#testing/release-server.ts";

function makeDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "hearth-find-"));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

/** Writes both programs into a directory. */
function put(dir: string, version: string, jailerVersion = version): string {
  mkdirSync(dir, { recursive: true });
  const scripts = {
    firecracker: versionScript("Firecracker", version),
    jailer: versionScript("Jailer", jailerVersion),
  };
  for (const [name, text] of Object.entries(scripts)) {
    rmSync(join(dir, name), { force: true });
    writeFileSync(join(dir, name), text, { mode: 0o755 });
  }
  const manifest = formatInstalledManifest({
    version,
    architecture: "x86_64",
    archiveUrl: "https://example.org/",
    archiveSha256: "0".repeat(64),
    sha256: { firecracker: sha256(scripts.firecracker), jailer: sha256(scripts.jailer) },
    pinned: false,
    installedAtMs: 0,
  });
  writeFileSync(join(dir, "manifest.json"), manifest);
  return dir;
}

test("the configured one is preferred over PATH, PATH over the cache, and there the newest version", async (t) => {
  const cacheDir = makeDir(t);
  const none = await findFirecracker({ cacheDir, path: "" }, t.signal);
  assert.ok(!none.ok);
  assert.match(none.reason, /not installed/);
  assert.match(none.hint, /hearth firecracker install/);
  assert.equal(none.refused, undefined);
  for (const version of ["1.9.0", "1.13.2", "1.13.10"]) put(join(cacheDir, "firecracker", version), version);
  const installed = await findFirecracker({ cacheDir, path: "" }, t.signal);
  assert.deepEqual(installed.ok && [installed.version, installed.source], ["1.13.10", "installed"]);
  const path = put(join(cacheDir, "bin"), "1.12.0");
  const inPath = await findFirecracker({ cacheDir, path }, t.signal);
  assert.deepEqual(inPath, {
    ok: true,
    program: join(path, "firecracker"),
    jailer: join(path, "jailer"),
    version: "1.12.0",
    source: "path",
    ownerUid: process.getuid?.(),
    mode: 0o755,
  });
  const program = join(put(join(cacheDir, "own"), "1.14.0"), "firecracker");
  const configured = await findFirecracker({ cacheDir, path, program }, t.signal);
  assert.deepEqual(configured.ok && [configured.version, configured.source], ["1.14.0", "config"]);
  const all = await listFirecrackers({ cacheDir, path }, t.signal);
  assert.deepEqual(
    all.map((one) => (one.ok ? one.version : one.reason.split(": ")[1])),
    ["1.12.0", "1.13.10", "1.13.2", "Firecracker 1.9.0 is too old."],
  );
});

test("an unsuitable one in PATH is replaced by an installed one, a configured one is not", async (t) => {
  const cacheDir = makeDir(t);
  put(join(cacheDir, "firecracker", "1.13.2"), "1.13.2");
  const path = put(join(cacheDir, "bin"), "1.11.0");
  const found = await findFirecracker({ cacheDir, path }, t.signal);
  assert.equal(found.ok && found.version, "1.13.2");
  const program = join(path, "firecracker");
  const refused = await findFirecracker({ cacheDir, path, program }, t.signal);
  assert.ok(!refused.ok);
  assert.match(refused.reason, /bin\/firecracker: Firecracker 1\.11\.0 is too old/);
  assert.match(refused.hint, /Hearth needs 1\.12\.0 or newer.*config\.toml/);
});

for (const version of ["1.16.0", "1.16.1", "1.16.1-dev"]) {
  test(`${version}, which makes VMs unreachable, is refused by name with the versions to use`, async (t) => {
    const cacheDir = makeDir(t);
    const path = put(join(cacheDir, "bin"), version);
    const refused = await findFirecracker({ cacheDir, path }, t.signal);
    assert.ok(!refused.ok);
    assert.match(refused.reason, new RegExp(`: Firecracker ${version} makes a VM .* unreachable for good`));
    assert.match(refused.hint, /^Use Firecracker 1\.16\.2 or newer, or 1\.15\.1\. Install a verified one/);
    put(join(cacheDir, "firecracker", "1.15.1"), "1.15.1");
    const found = await findFirecracker({ cacheDir, path }, t.signal);
    assert.equal(found.ok && found.version, "1.15.1", "the next one is used");
  });
}

test("versions next to refused ones are used", async (t) => {
  for (const version of ["1.12.0", "1.12.1", "1.14.1", "1.15.1", "1.16.2", "1.17.0-dev"]) {
    const cacheDir = makeDir(t);
    const found = await findFirecracker({ cacheDir, path: put(join(cacheDir, "bin"), version) }, t.signal);
    assert.equal(found.ok && found.version, version);
  }
});

const UNFIT: readonly (readonly [what: string, spoil: (dir: string) => void, reason: RegExp])[] = [
  [
    "its group may change",
    (dir) => chmodSync(join(dir, "firecracker"), 0o775),
    /mode 0775\): users other than its owner/,
  ],
  [
    "everybody may change",
    (dir) => chmodSync(join(dir, "jailer"), 0o757),
    /jailer .*users other than its owner/,
  ],
  ["lies where everybody may write", (dir) => chmodSync(dir, 0o777), /where every user can replace it/],
  [
    "has a jailer of another version",
    (dir) => put(dir, "1.13.0", "1.12.0"),
    /is version 1\.13\.0, and .* 1\.12\.0/,
  ],
  ["has no jailer", (dir) => rmSync(join(dir, "jailer")), /has no jailer/],
  [
    "is something else",
    (dir) => writeFileSync(join(dir, "firecracker"), "#!/bin/sh\necho Fire 9\n"),
    /look like/,
  ],
  ["fails", (dir) => writeFileSync(join(dir, "firecracker"), "#!/bin/sh\nexit 4\n"), /failed with 4/],
];
for (const [what, spoil, reason] of UNFIT) {
  test(`a program that ${what} is refused with the reason`, async (t) => {
    const cacheDir = makeDir(t);
    const path = put(join(cacheDir, "bin"), "1.13.0");
    assert.equal((await findFirecracker({ cacheDir, path }, t.signal)).ok, true, "it was suitable before");
    spoil(path);
    const found = await findFirecracker({ cacheDir, path }, t.signal);
    assert.ok(!found.ok);
    assert.match(found.reason, reason);
    assert.match(found.hint, /hearth firecracker install/);
    assert.equal(found.refused?.source, "path");
  });
}

test("a program that belongs to another user is refused", { skip: process.getuid?.() !== 0 }, async (t) => {
  const cacheDir = makeDir(t);
  const path = put(join(cacheDir, "bin"), "1.13.0");
  chownSync(join(path, "firecracker"), 12_345, 0);
  const found = await findFirecracker({ cacheDir, path }, t.signal);
  assert.match(
    found.ok ? "" : found.reason,
    /uid 12345, mode 0755\): it belongs neither to root nor to the user of hearthd/,
  );
});

test("a link is resolved, and its target is checked", async (t) => {
  const cacheDir = makeDir(t);
  const real = put(join(cacheDir, "opt"), "1.13.0");
  const path = join(cacheDir, "bin");
  mkdirSync(path);
  for (const name of ["firecracker", "jailer"]) symlinkSync(join(real, name), join(path, name));
  const found = await findFirecracker({ cacheDir, path }, t.signal);
  assert.equal(found.ok && found.program, join(real, "firecracker"));
  chmodSync(join(real, "firecracker"), 0o757);
  assert.equal((await findFirecracker({ cacheDir, path }, t.signal)).ok, false);
});

test("an installed program that was changed, or has no manifest, is never run", async (t) => {
  const cacheDir = makeDir(t);
  const dir = put(join(cacheDir, "firecracker", "1.13.0"), "1.13.0");
  const trace = join(cacheDir, "was-run");
  writeFileSync(join(dir, "firecracker"), `#!/bin/sh\ntouch ${trace}\necho Firecracker v1.13.0\n`);
  const changed = await findFirecracker({ cacheDir, path: "" }, t.signal);
  assert.match(changed.ok ? "" : changed.reason, /has changed since it was installed/);
  writeFileSync(join(dir, "manifest.json"), "{");
  const foreign = await findFirecracker({ cacheDir, path: "" }, t.signal);
  assert.match(foreign.ok ? "" : foreign.reason, /Cannot verify/);
  assert.equal(existsSync(trace), false);
});
