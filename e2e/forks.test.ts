/** Copies of a VM that runs: each is where it was, and none of them is another one. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed();
const BOOT_ID = "cat /proc/sys/kernel/random/boot_id";

before(async () => {
  await bed.ok(["create", "--name", "web", "--network", "nat", ...SMALL, "debian"]);
  await bed.sh("web", "echo on disk > /root/note; echo in memory > /run/note");
  await bed.ok(["exec", "-d", "web", "--", "sleep", "424242"]);
});

describe("fork -n 10", () => {
  const names = Array.from({ length: 10 }, (_, index) => `web-${index + 1}`);

  test("makes ten VMs that run, with memory, disk and processes of the source, which runs on", async () => {
    const [bootId, { pid }] = [await bed.sh("web", BOOT_ID), await bed.vm("web")];
    assert.equal(await bed.ok(["fork", "-n", "10", "web"]), `${names.join("\n")}\n`);
    const vms = await bed.vms();
    assert.deepEqual(vms.map(({ name, phase }) => `${name} ${phase}`).toSorted(), [
      "web running",
      ...names.map((name) => `${name} running`).toSorted(),
    ]);
    assert.equal(new Set(vms.map((vm) => vm.pid)).size, 11, "each has a VMM of its own");
    for (const name of names)
      assert.equal(
        await bed.sh(name, "cat /root/note /run/note; grep -lax sleep.424242. /proc/[0-9]*/cmdline | wc -l"),
        "on disk\nin memory\n1\n",
      );
    assert.deepEqual([await bed.sh("web", BOOT_ID), (await bed.vm("web")).pid], [bootId, pid]);
  });

  test("gives each its own host name and machine id", async () => {
    const script = "echo $(hostname) $(cat /etc/machine-id) $(cat /proc/sys/kernel/random/boot_id)";
    const found = await Promise.all(["web", ...names].map((name) => bed.sh(name, script)));
    const words = found.map((line) => line.trim().split(" "));
    assert.deepEqual(
      words.map(([hostname]) => hostname),
      ["web", ...names],
    );
    for (const column of [1, 2]) assert.equal(new Set(words.map((line) => line[column])).size, 11);
  });

  test("each has a network that works, and a card with an address of its own", async () => {
    // The namespace refuses at once, which only a network that works can tell.
    const script = "bash -c 'exec 3<>/dev/tcp/192.0.0.1/80' 2>&1 || true";
    for (const name of ["web", ...names.slice(0, 3)])
      assert.match(await bed.sh(name, script), /No route to host/);
    const cards = await Promise.all(
      ["web", ...names].map((name) => bed.sh(name, "cat /sys/class/net/eth0/address")),
    );
    assert.ok(cards.every((card) => /^[0-9a-f:]{17}\n$/.test(card)));
    assert.equal(new Set(cards).size, 11);
  });

  test("what one writes no other one sees, in neither direction", async () => {
    await bed.sh("web-1", "echo first > /root/note; echo first > /run/note; sync");
    await bed.sh("web", "echo source > /root/note; echo source > /run/note; sync");
    const note = "cat /root/note /run/note";
    assert.equal(await bed.sh("web-1", note), "first\nfirst\n");
    assert.equal(await bed.sh("web", note), "source\nsource\n");
    assert.equal(await bed.sh("web-2", `echo 3 > /proc/sys/vm/drop_caches; ${note}`), "on disk\nin memory\n");
  });

  test("leaves nothing of the snapshot in between: the copies keep what they map, also when others go", async () => {
    assert.deepEqual(bed.snapshotDirs(), []);
    assert.equal(await bed.ok(["snapshot", "ls", "-q"]), "");
    await bed.ok(["rm", "-f", "web", ...names.slice(1)]);
    const script = "cat /root/note; find /usr/bin -type f -exec cat {} + | wc -c";
    assert.match(await bed.sh("web-1", script), /^first\n\d{7,}\n$/);
    await bed.ok(["restart", "web-1"]);
    assert.equal(await bed.sh("web-1", "cat /root/note; cat /run/note 2>/dev/null || true"), "first\n");
    await bed.ok(["rm", "-f", "web-1"]);
    assert.deepEqual(bed.leftovers(), []);
  });
});

describe("all copies are made, or none", () => {
  test("a name that is taken: nothing is made, the source runs on, and the next try works", async () => {
    await bed.ok(["create", "--name", "base", ...SMALL, "debian"]);
    await bed.ok(["create", "--no-start", "--name", "worker-2", ...SMALL, "debian"]);
    const refused = await bed.hearth(["fork", "-n", "3", "--name", "worker", "base"]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^error: A VM named worker-2 already exists\.\nhint: .*another name/m);
    assert.deepEqual(await namesOf(bed), ["base", "worker-2"]);
    assert.deepEqual(bed.snapshotDirs(), []);
    assert.equal(await bed.sh("base", "echo alive"), "alive\n");
    await bed.ok(["rm", "worker-2"]);
    const made = await bed.ok(["fork", "-n", "3", "--name", "worker", "--rm", "base"]);
    assert.equal(made, "worker-1\nworker-2\nworker-3\n");
    await bed.ok(["stop", "worker-1", "worker-2", "worker-3"]);
    await bed.until(async () => (await namesOf(bed)).join(" ") === "base"); // They were to go when they stop.
  });

  test("one that cannot start, when others run already: they go again, and the source runs on", async () => {
    // Room for the source, and for three more.
    const few = new Bed({ config: "[isolation]\nuid_first = 1_950_000_000\nuid_count = 4\n" });
    await few.ok(["create", "--name", "base", ...SMALL, "debian"]);
    const refused = await few.hearth(["fork", "-n", "4", "base"]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^error: All 4 uids for VMs are in use\.\nhint: /m);
    assert.deepEqual(await namesOf(few), ["base"]);
    assert.equal(few.vmms().length, 1);
    assert.deepEqual(few.snapshotDirs(), []);
    assert.equal(await few.sh("base", "echo alive"), "alive\n");
    await few.ok(["fork", "-n", "3", "base"]);
    assert.equal(few.vmms().length, 4, "that many do start");
    await few.ok(["rm", "-f", ...(await namesOf(few))]);
    assert.deepEqual(few.leftovers(), []);
  });

  test("a VM that does not run has no copies, and is left alone", async () => {
    await bed.ok(["stop", "base"]);
    const refused = await bed.hearth(["fork", "base"]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /hint: Start it first: `hearth start base`/);
    assert.deepEqual(await namesOf(bed), ["base"]);
  });

  test("a paused VM has copies that run, and stays paused", async () => {
    await bed.ok(["start", "base"]);
    await bed.sh("base", "echo in memory > /run/note");
    await bed.ok(["pause", "base"]);
    await bed.ok(["fork", "--name", "copy", "base"]);
    assert.equal(await bed.sh("copy", "hostname; cat /run/note"), "copy\nin memory\n");
    assert.equal((await bed.vm("base")).phase, "paused");
    await bed.ok(["resume", "base"]);
    assert.equal(await bed.sh("base", "hostname; cat /run/note"), "base\nin memory\n");
  });

  test("a copy has copies of its own, after the one that it is a copy of is gone", async () => {
    await bed.ok(["rm", "-f", "base"]);
    let name = "copy";
    for (let generation = 1; generation <= 6; generation++) {
      await bed.sh(name, `echo ${generation} >> /root/generations; sync`);
      const next = `copy-${generation}`;
      await bed.ok(["fork", "--name", next, name]);
      await bed.ok(["rm", "-f", name]);
      name = next;
    }
    assert.equal(
      await bed.sh(name, "cat /run/note; tr '\\n' ' ' < /root/generations"),
      "in memory\n1 2 3 4 5 6 ",
    );
    await bed.ok(["rm", "-f", name]);
    assert.deepEqual(bed.leftovers(), []);
  });
});

async function namesOf(at: Bed): Promise<string[]> {
  return (await at.vms()).map(({ name }) => name).toSorted();
}
