/** Templates: the first VM of a configuration boots, and all later ones are restored from where it was ready. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { endProcess } from "#host/process-end.ts";
import type { Snapshot } from "#api/wire.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed({ warm: true });
const TWO_CPUS = ["--memory", "256M", "--cpus", "2"];

async function templates(at = bed): Promise<string[]> {
  return (await at.ok(["template", "ls", "-q"])).split("\n").filter((id) => id !== "");
}

/** Resolves with the new one, when hearthd has made it in the background. */
async function templateBeside(known: readonly string[]): Promise<string> {
  const added = async (): Promise<string[]> => (await templates()).filter((id) => !known.includes(id));
  await bed.until(async () => (await added()).length > 0);
  const [id = ""] = await added();
  await bed.until(() => bed.vmms().length === vmmsOfUsers); // What it was made in is gone.
  return id;
}

/** As many as tests have made and not removed. */
let vmmsOfUsers = 0;

async function create(name: string, ...words: readonly string[]): Promise<string | undefined> {
  await bed.ok(["create", "--name", name, ...words, "debian"]);
  vmmsOfUsers += 1;
  return (await bed.vm(name)).restoredFrom;
}

async function remove(...names: readonly string[]): Promise<void> {
  await bed.ok(["rm", "-f", ...names]);
  vmmsOfUsers -= names.length;
}

let template: string;

describe("the second VM of a shape", { concurrency: false }, () => {
  test("is restored from what hearthd has made behind the first one, which booted", async () => {
    assert.equal(await create("first", ...SMALL), undefined);
    template = await templateBeside([]);
    assert.equal(await create("second", ...SMALL), template);
    const shown = JSON.parse(await bed.ok(["template", "ls", "--json"])) as Snapshot[];
    assert.deepEqual(
      shown.map(({ id, usedBy }) => [id, usedBy]),
      [[template, ["second"]]],
    );
    assert.equal((await bed.vm("first")).restoredFrom, undefined);
  });

  test("is like any other: its name, ids, environment and user; an empty disk; and nothing runs in it", async () => {
    await bed.sh("second", "echo its own > /root/note");
    await create("third", ...SMALL, "-e", "GREETING=hello", "-u", "nobody", "-w", "/tmp");
    const script = 'hostname; id -un; pwd; echo "$GREETING"; nproc; cat /sys/class/net/lo/flags';
    assert.equal(await bed.sh("third", script), "third\nnobody\n/tmp\nhello\n1\n0x9\n");
    const ids = "cat /etc/machine-id /proc/sys/kernel/random/boot_id";
    const all = await Promise.all(["first", "second", "third"].map((name) => bed.sh(name, ids)));
    assert.equal(new Set(all.flatMap((text) => text.trim().split("\n"))).size, 6);
    assert.equal(
      await bed.ok(["exec", "-u", "root", "third", "--", "ls", "-A", "/root"]),
      await rootOf("first"),
    );
    // The kernel's threads have no words.
    const programs =
      "for p in /proc/[0-9]*; do [ -z \"$(tr -d '\\0' < $p/cmdline)\" ] || cat $p/comm; done 2>/dev/null";
    assert.equal(await processes("third", programs), await processes("first", programs));
  });

  test("keeps what it writes through stop and start, which boots; start --fresh begins with the template again", async () => {
    await bed.ok(["stop", "second"]);
    await bed.ok(["start", "second"]);
    assert.equal((await bed.vm("second")).restoredFrom, undefined);
    assert.equal(await bed.sh("second", "cat /root/note"), "its own\n");
    const refused = await bed.hearth(["start", "--fresh", "second"]);
    assert.match(refused.stderr, /hint: Stop it first: `hearth stop second`/);
    await bed.ok(["stop", "second"]);
    await bed.ok(["start", "--fresh", "second"]);
    assert.equal((await bed.vm("second")).restoredFrom, template);
    assert.equal(await bed.sh("second", "hostname; ls /root"), "second\n");
    await bed.ok(["restart", "second"]);
    assert.equal((await bed.vm("second")).restoredFrom, undefined);
  });

  test("of a run, too: what the command prints and nothing else, its code, and nothing is left", async () => {
    const words = ["run", "--rm", ...SMALL, "debian", "--", "sh", "-c", "cat; echo to-stderr >&2; exit 42"];
    const { code, stdout, stderr } = await bed.hearth(words, { stdin: "from the pipe\n" });
    assert.deepEqual([code, stdout], [42, "from the pipe\n"]);
    assert.match(stderr, /restoring\n(.*\n)*to-stderr\n$/);
    assert.equal(bed.vmms().length, vmmsOfUsers);
    await remove("first", "second", "third");
  });

  test("has a network that works", async () => {
    const known = await templates();
    await bed.ok(["template", "build", "--network", "nat", ...SMALL, "debian"]);
    assert.notEqual(await create("netted", "--network", "nat", ...SMALL), undefined);
    // The namespace refuses at once, which only a network that works can tell.
    const script = "bash -c 'exec 3<>/dev/tcp/192.0.0.1/80' 2>&1 || true";
    assert.match(await bed.sh("netted", script), /No route to host/);
    await remove("netted");
    await bed.ok(["template", "rm", ...(await templates()).filter((id) => !known.includes(id))]);
  });
});

describe("who does not start from a template", { concurrency: false }, () => {
  test("a VM with --cold, and one of another shape", async () => {
    assert.equal(await create("warm", "--no-warm", ...SMALL), template, "--no-warm uses what is there");
    assert.equal(await create("cold", "--cold", ...SMALL), undefined);
    for (const words of [
      TWO_CPUS,
      ["--memory", "320M", "--cpus", "1"],
      [...SMALL, "--disk", "1G"],
      [...SMALL, "--boot-args", "quiet"],
    ]) {
      assert.equal(await create("other", "--no-warm", ...words), undefined, words.join(" "));
      await remove("other");
    }
    await remove("warm", "cold");
  });

  test("with --no-warm and --cold no template is made: the next shape's is the only new one", async () => {
    await create("none", "--no-warm", ...TWO_CPUS);
    await create("cold", "--cold", ...SMALL, "--disk", "2G");
    await create("some", ...SMALL, "--disk", "1G");
    const id = await templateBeside([template]); // They are made in the order in which they were wanted.
    assert.deepEqual((await templates()).toSorted(), [id, template].toSorted());
    assert.equal(await create("next", ...SMALL, "--disk", "1G"), id);
    await remove("none", "cold", "some", "next");
    await bed.ok(["template", "rm", id]);
  });
});

describe("a VM with volumes", { concurrency: false }, () => {
  test("starts warm when another one had volumes of the same sizes, and has its own data", async () => {
    for (const name of ["one", "two"]) await bed.ok(["volume", "create", name, "--size", "64M"]);
    await bed.ok(["volume", "create", "large", "--size", "96M"]);
    const known = await templates();
    assert.equal(await create("first", ...SMALL, "--volume", "one:/data"), undefined);
    await bed.sh("first", "echo one > /data/file");
    const id = await templateBeside(known);
    assert.equal(await create("second", ...SMALL, "--volume", "two:/mnt/elsewhere"), id);
    assert.equal(
      await bed.sh("second", "mountpoint /mnt/elsewhere; ls /mnt/elsewhere; ls -d /data || true"),
      "/mnt/elsewhere is a mountpoint\nlost+found\n",
    );
    await bed.sh("second", "echo two > /mnt/elsewhere/file");
    await remove("first", "second");
    assert.equal(await create("third", ...SMALL, "--volume", "one:/data"), id);
    assert.equal(await bed.sh("third", "cat /data/file"), "one\n");
    assert.equal(await create("fourth", "--no-warm", ...SMALL, "--volume", "large:/data"), undefined);
    await remove("third", "fourth");
    assert.equal(await create("fifth", ...SMALL, "--volume", "two:/data"), id);
    assert.equal(await bed.sh("fifth", "cat /data/file"), "two\n");
    await remove("fifth");
    await bed.ok(["template", "rm", id]);
  });
});

describe("templates", { concurrency: false }, () => {
  test("outlive hearthd", async () => {
    await bed.ok(["daemon", "stop"]);
    assert.equal(await create("later", ...SMALL), template);
    const daemon = bed.daemon();
    assert.ok(daemon);
    await endProcess(daemon, 0, AbortSignal.timeout(10_000));
    assert.equal(await create("last", ...SMALL), template);
    await remove("later");
  });

  test("are not removed while a VM maps them, by rm with its name and by prune without a word", async () => {
    await bed.ok(["template", "build", ...TWO_CPUS, "debian"]);
    const refused = await bed.hearth(["template", "rm", template]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, new RegExp(`^error: ${template} is used by last\\.\nhint: `, "m"));
    assert.equal(await bed.ok(["template", "prune"]), "1\n");
    assert.deepEqual(await templates(), [template]);
    assert.equal(await bed.sh("last", "echo alive"), "alive\n");
    await remove("last");
    assert.equal(await bed.ok(["template", "prune"]), "1\n");
    assert.deepEqual([await templates(), bed.leftovers()], [[], []]);
  });

  test("that are being made when hearthd is killed leave nothing, and are made again", async () => {
    await create("first", ...SMALL);
    const isMade = (): boolean =>
      readFileSync(join(bed.dirs.state, "hearthd.log"), "utf8").split(`"flow":"snapshot"`).length > mentions;
    const mentions = readFileSync(join(bed.dirs.state, "hearthd.log"), "utf8").split(
      `"flow":"snapshot"`,
    ).length;
    await bed.until(isMade);
    const daemon = bed.daemon();
    assert.ok(daemon);
    await endProcess(daemon, 0, AbortSignal.timeout(10_000));
    assert.deepEqual(await templates(), []);
    assert.deepEqual([bed.vmms().length, bed.snapshotDirs()], [1, []]);
    assert.equal(await bed.sh("first", "echo alive"), "alive\n");
    await create("second", ...SMALL);
    await templateBeside([]);
    await remove("first", "second");
  });
});

describe("the budget for templates", () => {
  test("is kept by removing the least recently used, and never one that a VM maps", async () => {
    // One of them takes some 130 MiB, and none fits beside another one.
    const poor = new Bed({ warm: true, config: '[warm]\nbudget = "200M"\n' });
    const build = async (...words: readonly string[]): Promise<string> =>
      (await poor.ok(["template", "build", ...words, "debian"])).trim();
    const one = await build(...SMALL);
    assert.deepEqual(await templates(poor), [one]);
    const two = await build(...TWO_CPUS);
    assert.deepEqual(await templates(poor), [two]);
    await poor.ok(["create", "--name", "uses-two", ...TWO_CPUS, "debian"]);
    assert.equal((await poor.vm("uses-two")).restoredFrom, two);
    const three = await build(...SMALL);
    assert.deepEqual((await templates(poor)).toSorted(), [two, three].toSorted(), "the VM's stays");
    await poor.ok(["stop", "uses-two"]);
    const four = await build(...SMALL, "--disk", "1G");
    assert.deepEqual(await templates(poor), [four]);
    await poor.ok(["start", "uses-two"]);
    assert.equal(await poor.sh("uses-two", "hostname"), "uses-two\n", "its disk needs no template");
    await poor.ok(["rm", "-f", "uses-two"]);
    await poor.ok(["template", "prune"]);
    assert.deepEqual(poor.leftovers(), []);
  });

  test("of nothing, or a config that switches templates off: VMs boot, and nothing is made", async () => {
    const off = new Bed({ warm: false });
    await off.ok(["create", "--name", "boots", ...SMALL, "debian"]);
    assert.equal((await off.vm("boots")).restoredFrom, undefined);
    const refused = await off.hearth(["template", "build", ...SMALL, "debian"]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^error: .*\nhint: /m);
    assert.deepEqual(off.snapshotDirs(), []);
  });
});

function rootOf(name: string): Promise<string> {
  return bed.ok(["exec", "-u", "root", name, "--", "ls", "-A", "/root"]);
}

function processes(name: string, script: string): Promise<string> {
  return bed.ok(["exec", "-u", "root", name, "--", "sh", "-c", script]);
}

before(async () => void (await bed.ok(["image", "build", "debian"])));
