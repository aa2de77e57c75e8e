/** A VM as it was: gone back to, and made into others. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import type { Snapshot } from "#api/wire.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed();
const BOOT_ID = "cat /proc/sys/kernel/random/boot_id";
const NOTES = "cat /root/note /run/note";

async function snapshots(): Promise<string[]> {
  return (await bed.ok(["snapshot", "ls", "-q"])).split("\n").filter((name) => name !== "");
}

async function shown(name: string): Promise<Snapshot> {
  return JSON.parse(await bed.ok(["snapshot", "show", "--json", name])) as Snapshot;
}

async function write(name: string, what: string): Promise<void> {
  await bed.sh(name, `echo ${what} > /root/note; echo ${what} > /run/note; sync`);
}

before(async () => {
  await bed.ok(["create", "--name", "web", ...SMALL, "debian"]);
  await write("web", "first");
  await bed.ok(["exec", "-d", "web", "--", "sleep", "424242"]);
});

describe("a snapshot of a VM that runs", { concurrency: false }, () => {
  test("has its memory and its disk; the VM is the same before and after", async () => {
    const [bootId, { pid }] = [await bed.sh("web", BOOT_ID), await bed.vm("web")];
    assert.equal(await bed.ok(["snapshot", "create", "--label", "kept=yes", "web", "first"]), "first\n");
    const after = await bed.vm("web");
    assert.deepEqual([after.phase, after.pid], ["running", pid]);
    assert.equal(await bed.sh("web", BOOT_ID), bootId);
    const snapshot = await shown("first");
    assert.deepEqual(snapshot.labels, { kept: "yes" });
    assert.equal(await bed.ok(["snapshot", "ls", "-q", "--filter", "label=kept"]), "first\n");
    assert.deepEqual([snapshot.vm, snapshot.hasMemory, snapshot.usedBy], ["web", true, []]);
    assert.deepEqual(snapshot.parts.map(({ name }) => name).toSorted(), ["memory", "state"]);
    assert.equal(bed.vmms().length, 1, "what has tried it is gone");
  });

  test("makes VMs that resume where it was, with its processes and nothing that came later", async () => {
    await write("web", "second");
    for (const name of ["one", "two"]) {
      assert.equal(await bed.ok(["create", "--name", name, "--snapshot", "first"]), `${name}\n`);
      assert.equal(await bed.sh(name, NOTES), "first\nfirst\n");
      const count = "grep -lax sleep.424242. /proc/[0-9]*/cmdline | wc -l";
      assert.equal(await bed.sh(name, count), "1\n");
    }
    assert.equal((await bed.vm("one")).restoredFrom, (await shown("first")).id);
  });

  test("their disks and memory are their own, and the source's is its own", async () => {
    await write("one", "one");
    const drop = "echo 3 > /proc/sys/vm/drop_caches";
    assert.equal(await bed.sh("two", `${drop}; ${NOTES}`), "first\nfirst\n");
    assert.equal(await bed.sh("web", `${drop}; ${NOTES}`), "second\nsecond\n");
    await write("web", "third");
    assert.equal(await bed.sh("one", `${drop}; ${NOTES}`), "one\none\n");
    await bed.ok(["create", "--name", "three", "--snapshot", "first"]);
    assert.equal(await bed.sh("three", NOTES), "first\nfirst\n", "nobody has written to the snapshot");
  });

  test("cannot be removed while VMs map it, and the error names them; afterwards it can, and nothing is left", async () => {
    assert.deepEqual((await shown("first")).usedBy.toSorted(), ["one", "three", "two"]);
    const refused = await bed.hearth(["snapshot", "rm", "first"]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^error: first is used by (one|two|three), .*\.\nhint: .*hearth stop /m);
    for (const name of ["one", "two", "three"]) assert.match(refused.stderr, new RegExp(`\\b${name}\\b`));
    await bed.ok(["stop", "one"]); // It maps nothing any more, and keeps its disk.
    await bed.ok(["rm", "-f", "two", "three"]);
    assert.equal(bed.snapshotDirs().length, 1);
    await bed.ok(["snapshot", "rm", "first"]);
    assert.deepEqual([await snapshots(), bed.snapshotDirs()], [[], []]);
    await bed.ok(["start", "one"]);
    assert.equal(await bed.sh("one", "cat /root/note; test -e /run/note || echo booted"), "one\nbooted\n");
    await bed.ok(["rm", "-f", "one"]);
  });

  test("a name that is taken, or no name: nothing is left, and the VM runs on", async () => {
    await bed.ok(["snapshot", "create", "--disk-only", "web", "taken"]);
    for (const words of [["taken"], ["Not-A-Name"]]) {
      const refused = await bed.hearth(["snapshot", "create", "web", ...words]);
      assert.ok(refused.code === 1 || refused.code === 2, refused.stderr);
      assert.match(refused.stderr, /^error: .*\nhint: /m);
    }
    assert.deepEqual([await snapshots(), bed.snapshotDirs().length], [["taken"], 1]);
    assert.equal(await bed.sh("web", "cat /root/note"), "third\n");
    await bed.ok(["snapshot", "rm", "taken"]);
  });
});

describe("snapshot restore", { concurrency: false }, () => {
  before(async () => {
    await write("web", "saved");
    await bed.ok(["snapshot", "create", "web", "saved"]);
  });

  for (const [phase, words] of [
    ["that runs", undefined],
    ["that is paused", "pause"],
    ["that is suspended", "suspend"],
    ["that was stopped", "stop"],
    ["that was killed", "kill"],
  ] as const) {
    test(`puts a VM back ${phase}: memory, files and processes; and the snapshot stays`, async () => {
      await write("web", "later");
      await bed.sh("web", "touch /root/more");
      if (words !== undefined) await bed.ok([words, "web"]);
      assert.equal(await bed.ok(["snapshot", "restore", "saved"]), "web\n");
      assert.equal(await bed.sh("web", `${NOTES}; ls /root`), "saved\nsaved\nnote\n");
      const { phase: now, name } = await bed.vm("web");
      assert.deepEqual([now, name, bed.vmms().length], ["running", "web", 1]);
      assert.deepEqual(await snapshots(), ["saved"]);
      assert.equal(bed.snapshotDirs().length, 1, "the memory of a VM that slept is gone");
    });
  }

  test("what a VM wrote after it went back is kept through stop and start", async () => {
    await write("web", "after");
    await bed.ok(["stop", "web"]);
    await bed.ok(["snapshot", "rm", "saved"]);
    await bed.ok(["start", "web"]);
    assert.equal(await bed.sh("web", "cat /root/note"), "after\n");
  });

  test("also puts back what set has changed: its memory fits what it was saved with alone", async () => {
    await bed.ok(["snapshot", "create", "web", "small"]);
    await bed.ok(["stop", "web"]);
    await bed.ok(["set", "web", "--memory", "384M", "--cpus", "2"]);
    await bed.ok(["start", "web"]);
    assert.equal(await bed.sh("web", "nproc"), "2\n");
    await bed.ok(["snapshot", "restore", "small"]);
    assert.equal(await bed.sh("web", "nproc"), "1\n");
    assert.equal((await bed.vm("web")).memoryBytes, 256 * 1024 ** 2);
    assert.match((await bed.hearth(["snapshot", "rm", "small"])).stderr, /^error: small is used by web\.\n/m);
  });
});

describe("a snapshot of the disk alone", { concurrency: false }, () => {
  before(async () => {
    await bed.ok(["rm", "-f", "web"]);
    await bed.ok(["snapshot", "rm", "small"]);
    await bed.ok(["create", "--name", "web", ...SMALL, "debian"]);
  });

  test("of a VM that runs has all that was written, also what was not synced; VMs of it boot", async () => {
    const bootId = await bed.sh("web", BOOT_ID);
    await bed.sh("web", "echo unsynced > /root/note; echo in memory > /run/note");
    await bed.ok(["snapshot", "create", "--disk-only", "web", "disk"]);
    assert.equal(await bed.sh("web", BOOT_ID), bootId);
    const { hasMemory, parts } = await shown("disk");
    assert.deepEqual([hasMemory, parts], [false, []]);
    await bed.ok(["create", "--name", "copy", "--snapshot", "disk"]);
    assert.equal(
      await bed.sh("copy", "cat /root/note; test -e /run/note || echo booted"),
      "unsynced\nbooted\n",
    );
    assert.equal((await bed.vm("copy")).restoredFrom, undefined);
    await bed.ok(["snapshot", "rm", "disk"]); // The copy has its disk.
    await bed.ok(["restart", "copy"]);
    assert.equal(await bed.sh("copy", "cat /root/note"), "unsynced\n");
    await bed.ok(["rm", "-f", "copy"]);
  });

  test("of a VM that is stopped is all that there is; going back to it leaves the VM stopped", async () => {
    await bed.ok(["stop", "web"]);
    await bed.ok(["snapshot", "create", "web", "stopped"]);
    assert.equal((await shown("stopped")).hasMemory, false);
    await bed.ok(["start", "web"]);
    await bed.sh("web", "echo later > /root/note");
    await bed.ok(["stop", "web"]);
    await bed.ok(["snapshot", "restore", "stopped"]);
    assert.equal((await bed.vm("web")).phase, "stopped");
    await bed.ok(["start", "web"]);
    assert.equal(await bed.sh("web", "cat /root/note"), "unsynced\n");
  });

  test("boots a VM that runs when it goes back", async () => {
    await bed.sh("web", "echo later > /root/note; sync");
    const bootId = await bed.sh("web", BOOT_ID);
    await bed.ok(["snapshot", "restore", "stopped"]);
    assert.equal(await bed.sh("web", "cat /root/note"), "unsynced\n");
    assert.notEqual(await bed.sh("web", BOOT_ID), bootId);
  });

  test("of a VM that was never started makes VMs that begin like it", async () => {
    await bed.ok(["create", "--no-start", "--name", "new", ...SMALL, "debian"]);
    await bed.ok(["snapshot", "create", "new", "empty"]);
    await bed.ok(["create", "--name", "begun", "--snapshot", "empty"]);
    assert.equal(await bed.sh("begun", "ls /root"), "");
    await bed.ok(["rm", "-f", "new", "begun"]);
    await bed.ok(["snapshot", "rm", "empty"]);
  });
});

describe("a VM with volumes", () => {
  test("is saved without its memory alone, which the error says", async () => {
    await bed.ok(["volume", "create", "data", "--size", "64M"]);
    await bed.ok(["create", "--name", "full", ...SMALL, "--volume", "data:/data", "debian"]);
    for (const verb of [
      ["snapshot", "create", "full", "all"],
      ["suspend", "full"],
      ["fork", "full"],
    ]) {
      const refused = await bed.hearth(verb);
      assert.equal(refused.code, 1, verb.join(" "));
      assert.match(refused.stderr, /^error: full has volumes \(data\).*\nhint: /m);
      assert.equal((await bed.vm("full")).phase, "running");
    }
    await bed.ok(["snapshot", "create", "--disk-only", "full", "disk"]);
    await bed.ok(["rm", "-f", "full"]);
    await bed.ok(["snapshot", "rm", "disk"]);
  });
});

test("a snapshot outlives its VM: others are made from it, and going back says what to do", async () => {
  await bed.sh("web", "echo in memory > /run/note");
  await bed.ok(["snapshot", "create", "web", "last"]);
  await bed.ok(["rm", "-f", "web"]);
  const refused = await bed.hearth(["snapshot", "restore", "last"]);
  assert.equal(refused.code, 1);
  assert.match(
    refused.stderr,
    /^error: Cannot restore last: its VM, web, no longer exists\.\nhint: .*hearth create --snapshot last/m,
  );
  await bed.ok(["create", "--name", "heir", "--snapshot", "last"]);
  assert.equal(await bed.sh("heir", NOTES), "unsynced\nin memory\n");
  await bed.ok(["rm", "-f", "heir"]);
  await bed.ok(["snapshot", "rm", "last", "stopped"]);
  assert.deepEqual(bed.leftovers(), []);
});

test("create --cold --snapshot boots from its disk", async () => {
  await bed.ok(["create", "--name", "web", ...SMALL, "debian"]);
  await write("web", "kept");
  await bed.ok(["snapshot", "create", "web", "both"]);
  await bed.ok(["create", "--name", "cold", "--cold", "--snapshot", "both"]);
  assert.equal(await bed.sh("cold", "cat /root/note; test -e /run/note || echo booted"), "kept\nbooted\n");
  await bed.ok(["snapshot", "rm", "both"]); // Nothing maps it.
  await bed.ok(["rm", "-f", "web", "cold"]);
  assert.deepEqual(bed.leftovers(), []);
});
