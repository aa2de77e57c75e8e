/** Suspended VMs: their memory is on the disk, and they continue where they were. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { endProcess } from "#host/process-end.ts";
import type { Hearth, HearthError } from "#sdk/hearth.ts";
import { LAYERS_MAX } from "#storage/disk-layout.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed();
const SLEEPER = "grep -lax sleep.424242. /proc/[0-9]*/cmdline";
const NOTES = "cat /root/note /run/note";
let hearth: Hearth;
let sleeper: string;

async function phaseOf(name: string): Promise<string> {
  return (await bed.vm(name)).phase;
}

/** How many starts hearthd has begun for this VM. */
async function startsOf(name: string): Promise<number> {
  const { id } = await bed.vm(name);
  const log = readFileSync(join(bed.dirs.state, "hearthd.log"), "utf8");
  return log.split(`"event":"flow.started","flow":"start","vm":"${id}"`).length - 1;
}

function assertSuspended(): void {
  assert.deepEqual(bed.vmms(), [], "its memory is the host's again");
  assert.deepEqual([bed.launchers(), bed.uidLeases()], [[], []]);
  assert.equal(bed.snapshotDirs().length, 1);
}

before(async () => {
  await bed.ok(["create", "--name", "web", ...SMALL, "debian"]);
  await bed.sh("web", "echo on disk > /root/note; echo in memory > /run/note");
  await bed.ok(["exec", "-d", "web", "--", "sleep", "424242"]);
  sleeper = await bed.sh("web", SLEEPER);
  hearth = await bed.connect();
});

describe("a VM that is suspended", { concurrency: false }, () => {
  test("has no VMM, says so, and is no snapshot of a user", async () => {
    assert.equal(await bed.ok(["suspend", "web"]), "web\n");
    assertSuspended();
    const { phase, pid } = await bed.vm("web");
    assert.deepEqual([phase, pid], ["suspended", undefined]);
    assert.match(await bed.ok(["ls"]), /^web .*suspended/m);
    assert.match((await bed.hearth(["suspend", "web"])).stderr, /web is already suspended/);
    assert.equal(await bed.ok(["snapshot", "ls", "-q"]), "", "it is no snapshot of a user's");
  });

  test("is resumed when a command is to run in it, where it was: memory, disk and processes", async () => {
    assert.equal(await bed.sh("web", NOTES), "on disk\nin memory\n");
    assert.equal(await bed.sh("web", SLEEPER), sleeper);
    assert.equal(await phaseOf("web"), "running");
    assert.deepEqual(bed.snapshotDirs(), [], "its memory is saved no more");
  });

  test("is resumed by resume and by start, and by a copy of a file", async () => {
    writeFileSync(join(bed.dir, "file"), "a file\n");
    for (const words of [
      ["resume", "web"],
      ["start", "web"],
      ["cp", join(bed.dir, "file"), "web:/run/file"],
      ["cp", "web:/run/file", join(bed.dir, "back")],
    ]) {
      await bed.ok(["suspend", "web"]);
      assertSuspended();
      await bed.ok(words);
      assert.equal(await phaseOf("web"), "running", words.join(" "));
      assert.equal(await bed.sh("web", SLEEPER), sleeper);
    }
    assert.equal(readFileSync(join(bed.dir, "back"), "utf8"), "a file\n");
    assert.match((await bed.hearth(["resume", "web"])).stderr, /web is already running/);
  });

  test("twenty commands at once resume it once, and each gets its answer", async () => {
    await bed.ok(["suspend", "web"]);
    const starts = await startsOf("web");
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => hearth.vm("web").exec(["echo", String(index)])),
    );
    assert.deepEqual(
      answers.map(({ stdout }) => stdout),
      answers.map((_, index) => `${index}\n`),
    );
    assert.equal(await startsOf("web"), starts + 1);
    assert.equal(bed.vmms().length, 1);
  });

  test("is resumed also when the client that wanted it disconnects", async () => {
    await bed.ok(["suspend", "web"]);
    const first = bed.start(["exec", "web", "--", "true"]);
    await bed.until(async () => (await phaseOf("web")) !== "suspended");
    first.kill("SIGKILL");
    assert.equal(await bed.sh("web", SLEEPER), sleeper);
  });

  for (const [how, end] of [
    ["daemon stop", () => bed.ok(["daemon", "stop"])],
    ["kill -9 of hearthd", killDaemon],
  ] as const) {
    test(`stays suspended after ${how}, and the next hearthd resumes it`, async () => {
      await bed.ok(["suspend", "web"]);
      await end();
      assert.equal(await phaseOf("web"), "suspended");
      assertSuspended();
      assert.equal(await bed.sh("web", `${SLEEPER}; ${NOTES}`), `${sleeper}on disk\nin memory\n`);
    });
  }

  test("any number of times: nothing that is written in between is lost, and the number of its layers is limited", async () => {
    const { id } = await bed.vm("web");
    for (let time = 1; time <= LAYERS_MAX + 3; time++) {
      await bed.sh("web", `echo ${time} >> /root/times; echo ${time} >> /run/times`);
      await bed.ok(["suspend", "web"]);
      const files = readdirSync(join(bed.dirs.state, "vms", id));
      assert.ok(files.filter((name) => name.startsWith("layer-")).length <= LAYERS_MAX, files.join(" "));
    }
    const times = Array.from({ length: LAYERS_MAX + 3 }, (_, index) => `${index + 1}\n`).join("");
    const script = "echo 3 > /proc/sys/vm/drop_caches; cat /root/times /run/times";
    assert.equal(await bed.sh("web", script), times + times);
    assert.equal(await bed.sh("web", SLEEPER), sleeper);
  });
});

describe("the memory of a suspended VM", { concurrency: false }, () => {
  test("stop does not change it; kill deletes it, and the next start boots from the disk", async () => {
    await bed.sh("web", "sync");
    await bed.ok(["suspend", "web"]);
    assert.match((await bed.hearth(["stop", "web"])).stderr, /web is suspended, .*`hearth kill web`/);
    assertSuspended();
    await bed.ok(["kill", "web"]);
    assert.deepEqual([await phaseOf("web"), bed.snapshotDirs()], ["stopped", []]);
    await bed.ok(["start", "web"]);
    assert.equal(
      await bed.sh("web", "cat /root/note; test -e /run/note || echo booted"),
      "on disk\nbooted\n",
    );
  });

  test("is not used when it is damaged; the VM stays suspended, and can be killed and booted", async () => {
    await bed.sh("web", "echo in memory > /run/note; sync");
    await bed.ok(["suspend", "web"]);
    const [id = ""] = bed.snapshotDirs();
    const memory = join(bed.dirs.state, "snapshots", id, "memory");
    const sound = readFileSync(memory);
    const damaged = Buffer.from(sound);
    damaged[50_000_000] = (damaged[50_000_000] ?? 0) ^ 0x80;
    writeFileSync(memory, damaged);
    for (const words of [
      ["resume", "web"],
      ["exec", "web", "--", "true"],
    ]) {
      const refused = await bed.hearth(["--json", ...words]);
      assert.notEqual(refused.code, 0);
      assert.match(refused.stdout + refused.stderr, /"code": ?"snapshot\.corrupt"[^}]*"hint"/);
      assert.equal(await phaseOf("web"), "suspended");
      assertSuspended();
    }
    writeFileSync(memory, sound);
    assert.equal(await bed.sh("web", "cat /run/note"), "in memory\n", "it was the damage");
    await bed.ok(["suspend", "web"]);
    const [next = ""] = bed.snapshotDirs();
    writeFileSync(join(bed.dirs.state, "snapshots", next, "memory"), damaged);
    assert.notEqual((await bed.hearth(["resume", "web"])).code, 0);
    await bed.ok(["kill", "web"]);
    await bed.ok(["start", "web"]);
    assert.equal(
      await bed.sh("web", "cat /root/note; test -e /run/note || echo booted"),
      "on disk\nbooted\n",
    );
  });

  test("is deleted with the disk at start --fresh, and with the VM at rm", async () => {
    await bed.ok(["suspend", "web"]);
    await bed.ok(["start", "--fresh", "web"]);
    assert.equal(await bed.sh("web", "ls /root /run/note 2>/dev/null || true"), "/root:\n");
    assert.deepEqual(bed.snapshotDirs(), []);
    await bed.ok(["suspend", "web"]);
    await bed.ok(["rm", "web"]);
    assert.deepEqual([await bed.vms(), bed.leftovers()], [[], []]);
  });
});

describe("suspend", { concurrency: false }, () => {
  before(async () => void (await bed.ok(["create", "--name", "next", ...SMALL, "debian"])));

  test("works on a paused VM, which runs when it is resumed", async () => {
    await bed.sh("next", "echo in memory > /run/note");
    await bed.ok(["pause", "next"]);
    await bed.ok(["suspend", "next"]);
    assertSuspended();
    await bed.ok(["resume", "next"]);
    assert.equal(await bed.sh("next", "cat /run/note"), "in memory\n");
  });

  test("refuses a VM that does not run, with the fix", async () => {
    await bed.ok(["stop", "next"]);
    const refused = await bed.hearth(["suspend", "next"]);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /^hint: Start it first: `hearth start next`/m);
    await bed.ok(["start", "next"]);
  });

  test("with commands at the same moment: each runs, or ends with an error; the VM continues where it was", async () => {
    await bed.sh("next", "echo in memory > /run/note");
    for (let time = 0; time < 3; time++) {
      const falling = hearth.vm("next").suspend();
      const commands = Array.from({ length: 5 }, (_, index) =>
        hearth.vm("next").exec(["echo", String(index)]),
      );
      for (const [index, end] of (await Promise.allSettled(commands)).entries()) {
        if (end.status === "fulfilled") assert.equal(end.value.stdout, `${index}\n`);
        else assert.equal((end.reason as HearthError).code, "agent.unreachable");
      }
      await falling;
      assert.equal(await bed.sh("next", "cat /run/note"), "in memory\n");
      assert.equal(bed.vmms().length, 1);
    }
  });

  test("at the same moment as a snapshot and a fork: one is done at a time, and the others get an error", async () => {
    const work = [
      () => hearth.snapshots.create({ vm: "next", name: "at-once" }),
      () => hearth.vm("next").fork({ name: "copy" }),
      () => hearth.vm("next").suspend(),
      () => hearth.vm("next").remove(),
    ];
    const ends = await Promise.allSettled(work.map((begin) => begin()));
    for (const end of ends) {
      if (end.status === "fulfilled") continue;
      const { code } = end.reason as HearthError;
      assert.ok(["vm.busy", "vm.wrong_phase"].includes(code), code);
    }
    assert.ok(ends.some(({ status }) => status === "fulfilled"));
    assert.equal(ends.at(-1)?.status, "rejected", "a VM that runs is not removed");
    assert.equal(await bed.sh("next", "cat /run/note"), "in memory\n");
    const made = (await bed.ok(["snapshot", "ls", "-q"])).split("\n").filter((name) => name !== "");
    if (made.length > 0) await bed.ok(["snapshot", "rm", ...made]);
    await bed.hearth(["rm", "-f", "copy"]);
    assert.deepEqual(bed.snapshotDirs(), []);
  });

  test("of a VM that is removed meanwhile leaves nothing", async () => {
    await bed.ok(["create", "--name", "gone", ...SMALL, "debian"]);
    const falling = hearth.vm("gone").suspend();
    const [fallen] = await Promise.allSettled([falling, hearth.vm("gone").remove({ force: true })]);
    assert.equal(fallen.status, "rejected");
    assert.deepEqual(
      (await bed.vms()).map(({ name }) => name),
      ["next"],
    );
    assert.equal(bed.vmms().length, 1);
    assert.deepEqual(bed.snapshotDirs(), []);
  });

  test("of a VM whose VMM is killed right after its resume leaves a disk that boots, with all that was synced", async () => {
    await bed.sh("next", "echo before > /root/note");
    await bed.ok(["suspend", "next"]);
    await bed.sh("next", "echo after > /root/after; sync");
    const { pid } = await bed.vm("next");
    assert.ok(pid);
    process.kill(pid, "SIGKILL");
    await bed.until(async () => (await phaseOf("next")) === "failed");
    await bed.ok(["start", "next"]);
    assert.equal(await bed.sh("next", "cat /root/note /root/after"), "before\nafter\n");
    assert.deepEqual(bed.snapshotDirs(), []);
  });
});

describe("--idle-timeout", { concurrency: false }, () => {
  test("suspends a VM in which nothing runs, and not one with a command; the next command resumes it", async () => {
    await bed.ok(["rm", "-f", "next"]);
    for (const name of ["idle", "busy"])
      await bed.ok(["create", "--name", name, "--idle-timeout", "3s", ...SMALL, "debian"]);
    const command = await hearth.vm("busy").spawn(["sleep", "1000"]);
    await bed.sh("idle", "echo in memory > /run/note");
    await bed.until(async () => (await phaseOf("idle")) === "suspended");
    // It has been idle for just as long, but for its command.
    const { lastUsedAtMs } = await bed.vm("busy");
    await bed.until(() => Date.now() - lastUsedAtMs > 10_000);
    assert.equal(await phaseOf("busy"), "running");
    command.close();
    await bed.until(async () => (await phaseOf("busy")) === "suspended");
    assert.deepEqual(bed.vmms(), []);
    assert.equal(await bed.sh("idle", "cat /run/note"), "in memory\n");
    assert.equal(await phaseOf("idle"), "running");
    await bed.until(async () => (await phaseOf("idle")) === "suspended");
    await bed.ok(["rm", "idle", "busy"]);
    assert.deepEqual(bed.leftovers(), []);
  });
});

async function killDaemon(): Promise<void> {
  const daemon = bed.daemon();
  assert.ok(daemon, "hearthd runs");
  await endProcess(daemon, 0, AbortSignal.timeout(10_000));
}
