/** VMs that wait, restored and paused: `run` takes one of its shape, and it is like any other. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { endProcess } from "#host/process-end.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const POOL = '[pool.small]\nimage = "debian"\ncount = 1\nmemory = "256M"\ncpus = 1\n';
const bed = new Bed({ warm: true, config: POOL });
const TEMPLATES = ["template", "ls", "-q"];
/** How many have come to wait before this hearthd's first one. */
let waited = 0;

/** How often a VM has come to wait in a pool: no other test of this file pauses any. */
function waits(): number {
  const log = readFileSync(join(bed.dirs.state, "hearthd.log"), "utf8");
  return log.split('"event":"vm.phase","from":"running","to":"paused"').length - 1;
}

/** Resolves with the pid of the one that waits, once one more than before does. */
async function nextWaits(): Promise<number> {
  waited += 1;
  await bed.until(() => waits() >= waited);
  return hiddenPid();
}

/** Returns the pid of the VMM that waits in the pool. */
async function hiddenPid(): Promise<number> {
  const shown = new Set((await bed.vms()).map(({ pid }) => pid));
  const hidden = bed.vmms().filter(({ pid }) => !shown.has(pid));
  assert.equal(hidden.length, 1, "one waits");
  return hidden[0]?.pid ?? 0;
}

async function killDaemon(): Promise<void> {
  const daemon = bed.daemon();
  assert.ok(daemon, "hearthd runs");
  await endProcess(daemon, 0, AbortSignal.timeout(10_000));
}

before(async () => void (await bed.ok(["daemon", "start"])));

describe("a pool of one", { concurrency: false }, () => {
  let waiting: number;

  test("is filled when hearthd starts, with a VM that ls does not show", async () => {
    waiting = await nextWaits();
    assert.deepEqual(await bed.vms(), []);
    assert.equal(await bed.ok(["prune", "-f"]), "");
    assert.equal(await hiddenPid(), waiting);
    assert.match(await bed.ok(TEMPLATES), /^sn-\w+\n$/, "its template was made for it");
  });

  test("gives its VM to a run, under the name and with all that was asked for, and is filled again", async () => {
    const words = ["--name", "taken", "-e", "GREETING=hello", "-u", "nobody", "-w", "/tmp", ...SMALL];
    await bed.ok(["run", "-d", ...words, "debian", "--", "sleep", "424242"]);
    const { pid, restoredFrom } = await bed.vm("taken");
    assert.equal(pid, waiting, "it was there before");
    assert.equal(`${restoredFrom}\n`, await bed.ok(TEMPLATES));
    const script = 'hostname; cat /etc/hostname; id -un; pwd; echo "$GREETING"';
    assert.equal(await bed.sh("taken", script), "taken\ntaken\nnobody\n/tmp\nhello\n");
    assert.equal(await bed.sh("taken", "grep -lax sleep.424242. /proc/[0-9]*/cmdline | wc -l"), "1\n");
    waiting = await nextWaits();
    assert.notEqual(waiting, pid);
    await bed.ok(["rm", "-f", "taken"]);
    assert.equal(await hiddenPid(), waiting);
  });

  test("whoever gets its VMs has other random numbers, ids of its own and the right time", async () => {
    const script =
      "date +%s.%N; cat /etc/machine-id /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid; od -An -N16 -tx8 /dev/urandom";
    const said: string[] = [];
    for (let time = 0; time < 2; time++) {
      const waitedFrom = performance.now();
      await bed.until(() => performance.now() - waitedFrom > 3_000); // Its clock is stopped meanwhile.
      const fromMs = Date.now();
      const words = ["run", "--rm", ...SMALL, "debian", "--", "sh", "-c", script];
      const [date = "", ...others] = (await bed.ok(words)).trim().split("\n");
      const [wallMs, toMs] = [1000 * Number(date), Date.now()];
      assert.ok(wallMs > fromMs - 500 && wallMs < toMs + 500, `${wallMs} is not from ${fromMs} to ${toMs}`);
      said.push(...others);
      waiting = await nextWaits();
    }
    assert.deepEqual([said.length, new Set(said).size], [8, 8]);
  });

  test("serves only VMs of its configuration, and none that asks for a boot", async () => {
    for (const words of [
      ["--memory", "320M", "--cpus", "1"],
      [...SMALL, "--cold"],
    ]) {
      const name = (await bed.ok(["run", "-d", "--no-warm", ...words, "debian"])).trim();
      assert.equal(await hiddenPid(), waiting, words.join(" "));
      assert.equal(await bed.sh(name, "hostname"), `${name}\n`);
      await bed.ok(["rm", "-f", name]);
    }
  });

  test("of two runs at once one takes it, and both run", async () => {
    const outs = await Promise.all(
      ["one", "two"].map((name) =>
        bed.ok([
          "run",
          "--rm",
          "--name",
          name,
          ...SMALL,
          "debian",
          "--",
          "sh",
          "-c",
          "hostname; cat /etc/machine-id",
        ]),
      ),
    );
    assert.deepEqual(outs.map((out) => out.split("\n")[0]).toSorted(), ["one", "two"]);
    assert.notEqual(outs[0]?.split("\n")[1], outs[1]?.split("\n")[1]);
    waiting = await nextWaits();
  });

  test("a name that is taken is refused, and nothing is left of it", async () => {
    await bed.ok(["create", "--no-start", "--name", "there", ...SMALL, "debian"]);
    const refused = await bed.hearth(["run", "--name", "there", ...SMALL, "debian", "--", "true"]);
    assert.equal(refused.code, 125);
    assert.match(refused.stderr, /^error: A VM named there already exists\.\nhint: /m);
    assert.deepEqual(
      (await bed.vms()).map(({ name, phase }) => `${name} ${phase}`),
      ["there created"],
    );
    await bed.ok(["rm", "there"]);
    await nextWaits(); // Another one, because the first was somebody's for a moment.
  });
});

describe("a pool", { concurrency: false }, () => {
  test("whose VM was killed while it waited does not affect the next run, and is filled again", async () => {
    process.kill(await hiddenPid(), "SIGKILL");
    const words = ["run", "--rm", "--name", "next", ...SMALL, "debian", "--", "hostname"];
    assert.equal(await bed.ok(words), "next\n");
    await nextWaits();
  });

  test("of a hearthd that was killed ends with it, and the next hearthd fills its own", async () => {
    const pid = await hiddenPid();
    await killDaemon();
    waited = waits();
    await bed.ok(["daemon", "start"]);
    assert.notEqual(await nextWaits(), pid);
    assert.deepEqual(await bed.vms(), []);
    assert.equal(bed.uidLeases().length, 1);
  });

  test("leaves nothing behind daemon stop", async () => {
    await bed.ok(["daemon", "stop"]);
    const template = bed.snapshotDirs().map((name) => `snapshot ${name}`);
    assert.equal(template.length, 1);
    assert.deepEqual(bed.leftovers(), template);
  });
});
