import assert from "node:assert/strict";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { checkRootsAlone } from "#helper/roots-alone.ts";
import type { PortLaunch } from "#helper/privileged-port.ts";
import { HelperPlace, SLEEP, VM } from "#testing/helper-place.ts";

const isRoot = process.geteuid?.() === 0;
const never = new AbortController().signal;
const OWNER = { uid: 1_980_000_500, gid: 1_980_000_600 };

test("a path that only root can change is trusted, up to the root directory", { skip: !isRoot }, (t) => {
  // Not in /tmp: everybody may write there.
  const dir = mkdtempSync("/var/lib/hearth-roots-");
  t.after(() => rmSync(dir, { recursive: true }));
  chmodSync(dir, 0o755);
  mkdirSync(join(dir, "bin"));
  const program = join(dir, "bin", "jailer");
  writeFileSync(program, "", { mode: 0o755 });
  checkRootsAlone(program, "");
  checkRootsAlone("/usr/bin/env", "");
  for (const path of [program, join(dir, "bin"), dir]) {
    chownSync(path, OWNER.uid, 0);
    assert.throws(() => checkRootsAlone(program, "Move it."), {
      code: "path.unmanaged",
      message: `Cannot use ${program} as root: ${path} belongs to the uid ${OWNER.uid}.`,
      hint: "Move it.",
    });
    chownSync(path, 0, 0);
    chmodSync(path, 0o775);
    assert.throws(() => checkRootsAlone(program, ""), {
      message: new RegExp(`other users can write to ${path}\\.$`),
    });
    chmodSync(path, 0o755);
  }
});

test("a jailer that hearthd could change does not run as root", { skip: !isRoot }, async () => {
  using place = new HelperPlace();
  place.giveTo(OWNER);
  const dir = join(place.dir, "cache");
  mkdirSync(dir);
  writeFileSync(join(dir, "jailer"), "#!/bin/sh\n", { mode: 0o755 });
  const options = { owner: OWNER, programs: { programs: ["sleep"], dirs: [dir] } };
  const launch: PortLaunch = {
    ...SLEEP,
    jailer: join(dir, "jailer"),
    isolation: { ...SLEEP.isolation, jail: true },
  };
  const helper = place.helper(true, options);
  await helper.leaseUid(VM);
  await assert.rejects(helper.launchVmm(VM, launch, never), {
    code: "path.unmanaged",
    hint: /directory that only root can write/,
  });
  // hearthd can rename the jails of this place, too.
  await assert.rejects(helper.launchVmm(VM, { ...launch, jailer: "sleep" }, never), {
    code: "path.unmanaged",
    hint: /directory for jails/,
  });
});
