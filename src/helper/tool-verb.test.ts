/** Tests the verb that runs a tool on disks, with a shell in its place. */
import assert from "node:assert/strict";
import {
  appendFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { HelperPlace, shell, VM } from "#testing/helper-place.ts";

const isRoot = process.geteuid?.() === 0;
const OTHER = "vm-bbbbbbbbbbbb";
const never = new AbortController().signal;

test("a tool has a separate uid for one run, and no VM has it meanwhile", { skip: !isRoot }, async () => {
  using place = new HelperPlace();
  const helper = place.helper();
  mkdirSync(join(place.roots.vms, OTHER));
  const vm = await helper.leaseUid(VM);
  const untilToldToEnd = `until read -r line < "${place.disk}"; do :; done`;
  const run = helper.runTool(shell(untilToldToEnd, place.disk), never);
  while (statSync(place.disk).uid === 0) await new Promise(setImmediate);
  const { uid } = statSync(place.disk);
  const other = await helper.leaseUid(OTHER);
  assert.equal(new Set([0, vm, other, uid]).size, 4);
  assert.deepEqual(
    await helper.listLeases().then((vms) => vms.toSorted()),
    [VM, OTHER],
    "a tool's is no VM's",
  );
  appendFileSync(place.disk, "end\n");
  await run;
  assert.deepEqual(readdirSync(place.roots.runs), [VM], "nothing is left");
  assert.ok(!existsSync(join(place.roots.leases, String(uid))));
});

test("a tool that gets no uid leaves no run directory", { skip: !isRoot }, async () => {
  using place = new HelperPlace();
  const helper = place.helper(true, { uids: { first: 1_980_000_700, count: 1 } });
  await helper.leaseUid(VM);
  await assert.rejects(helper.runTool(shell("true"), never), { code: "host.uids_used_up" });
  assert.deepEqual(readdirSync(place.roots.runs), [VM]);
});

test("a tool writes to a VM's disk, which is hearthd's again afterwards", async () => {
  using place = new HelperPlace();
  const own = { uid: process.geteuid?.(), gid: process.getegid?.() };
  const other = { uid: 1_980_000_500, gid: 1_980_000_600 };
  for (const owner of isRoot ? [undefined, other] : [undefined]) {
    const helper = place.helper(isRoot, { owner });
    if (owner !== undefined) place.giveTo(owner);
    await helper.runTool(shell(`echo written > "${place.disk}"`, place.disk), never);
    assert.equal(readFileSync(place.disk, "utf8"), "written\n");
    const { uid, gid } = statSync(place.disk);
    assert.deepEqual({ uid, gid }, owner ?? own);
  }
});

test("a program that is not a tool is not run", async () => {
  using place = new HelperPlace();
  const helper = place.helper(isRoot);
  const before = place.snapshot();
  for (const program of ["bash", "/bin/sh", "../bin/sh", "", undefined as never])
    await assert.rejects(helper.runTool({ ...shell("true"), program }, never), {
      code: "input.invalid",
    });
  assert.deepEqual(place.snapshot(), before);
});

const FOREIGN: Readonly<Record<string, (place: HelperPlace) => string>> = {
  "that is nobody's": (place) => join(place.outside, "precious"),
  "above a directory": (place) => join(place.roots.vms, "..", "outside", "precious"),
  "that is a link": (place) => {
    rmSync(place.disk);
    symlinkSync(join(place.outside, "precious"), place.disk);
    return place.disk;
  },
  "with a second name": (place) => {
    rmSync(place.disk);
    linkSync(join(place.outside, "precious"), place.disk);
    return place.disk;
  },
  "behind a link": (place) => {
    symlinkSync(place.outside, join(place.roots.vms, "vm-bbbbbbbbbbbb"));
    return join(place.roots.vms, "vm-bbbbbbbbbbbb", "precious");
  },
  "that is a directory": (place) => {
    mkdirSync(join(place.roots.vms, VM, "save"));
    return join(place.roots.vms, VM, "save");
  },
};

for (const [what, lay] of Object.entries(FOREIGN)) {
  test(`a file to write ${what} is refused, and changes neither owner nor content`, async () => {
    using place = new HelperPlace();
    const path = lay(place);
    const helper = place.helper(isRoot);
    const before = place.snapshot();
    const run = helper.runTool(shell(`echo x > "${path}"`, path), never);
    await assert.rejects(run, { code: "path.unmanaged" });
    assert.deepEqual(place.snapshot(), before);
  });
}
