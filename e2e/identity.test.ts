/** A copy of a VM has an identity of its own before any process of the user runs. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Bed } from "./bed.ts";
import { drawsOf, startDrawing, stopDrawingTls } from "./draws.ts";
import type { Draw, Source } from "./draws.ts";

const bed = new Bed();
/** Two CPUs, because each has a random generator of its own in the kernel. */
const TWO_CPUS = ["--memory", "256M", "--cpus", "2"];
const PAIRS = 100;
/** Each takes an emulated CPU half a second: a library that a program has loaded before would know nothing anew. */
const TLS_PAIRS = process.env["HEARTH_E2E"] === "all" ? PAIRS : 8;
const OFF_MAX_MS = 500;
const BUSY_MS = 8_000;

type Life = { readonly before: readonly Draw[]; readonly after: readonly Draw[] };

/**
 * Returns what a VM drew before it was copied, and what it drew itself. The last line of before may have been
 * begun by one, and ended by the other.
 */
async function livesOf(names: readonly string[], count = PAIRS, source?: Source): Promise<Life[]> {
  const draws = await Promise.all(names.map((name) => drawsOf(bed, name, count, source)));
  return draws.map((all, index) => {
    const first = all.findIndex(({ host }) => host === names[index]);
    return { before: all.slice(0, first), after: all.slice(first) };
  });
}

function randomsOf(draws: readonly Draw[]): string[] {
  return draws.flatMap(({ randoms }) => randoms);
}

function assertSameBefore(lives: readonly Life[]): void {
  const [one, ...others] = lives.map((life) => life.before.slice(0, -1));
  assert.ok(one !== undefined && one.length >= 20, "they have drawn the same for a while");
  for (const other of others) assert.deepEqual(other, one);
}

function assertOthersAfter(lives: readonly Life[]): void {
  for (const { after } of lives)
    assert.equal(new Set(after.map(({ host }) => host)).size, 1, "the name does not change once it is there");
  const all = randomsOf(lives.flatMap(({ after }) => after.slice(0, PAIRS)));
  assert.equal(all.length, 4 * PAIRS * lives.length);
  assert.equal(new Set(all).size, all.length, "nothing was drawn twice");
}

/** A moment at which the host's clock was between two others. */
function assertBetween(fromMs: number, wallMs: number, toMs: number): void {
  const isRight = wallMs >= fromMs - OFF_MAX_MS && wallMs <= toMs + OFF_MAX_MS;
  assert.ok(isRight, `${wallMs} is not from ${fromMs} to ${toMs}`);
}

function assertForward(draws: readonly Draw[]): void {
  for (const [index, { monotonicS }] of draws.entries())
    assert.ok(index === 0 || monotonicS >= (draws[index - 1]?.monotonicS ?? Infinity));
}

let forkedFromMs = 0;
let forkedToMs = 0;

before(async () => {
  await bed.ok(["create", "--name", "source", ...TWO_CPUS, "debian"]);
  const files = "mkdir -p /etc/ssh /var/lib/systemd; openssl genpkey -algorithm ed25519 -out";
  await bed.sh("source", `${files} /etc/ssh/ssh_host_ed25519_key; echo seed > /var/lib/systemd/random-seed`);
  await startDrawing(bed, "source", "tls");
  await drawsOf(bed, "source", 2, "tls");
  await startDrawing(bed, "source");
  await drawsOf(bed, "source", 20);
  forkedFromMs = Date.now();
  await bed.ok(["fork", "-n", "2", "source"]);
  forkedToMs = Date.now();
  await stopDrawingTls(bed, "source");
});

describe("two forks of a VM in which a program draws random numbers all the time", () => {
  test(`never draw the same: of ${PAIRS} draws of getrandom, /dev/urandom and UUIDs each, none is in both, nor in the source`, async () => {
    const lives = await livesOf(["source-1", "source-2"]);
    assertSameBefore(lives);
    assertOthersAfter(lives);
    const source = await drawsOf(bed, "source", (lives[0]?.before.length ?? 0) + PAIRS);
    const shared = lives[0]?.before.slice(0, -1) ?? [];
    assert.deepEqual(source.slice(0, shared.length), shared, "the source drew that, too");
    const later = new Set(randomsOf(source.slice(shared.length + 1)));
    for (const { after } of lives)
      assert.deepEqual(
        randomsOf(after).filter((random) => later.has(random)),
        [],
      );
  });

  test(`never begin a TLS connection with the same random: of ${TLS_PAIRS} each, none is in both`, async () => {
    const lives = await livesOf(["source-1", "source-2"], TLS_PAIRS, "tls");
    const [one, two] = lives.map((life) => randomsOf(life.before.slice(0, -1)));
    assert.ok(one !== undefined && one.length > 0, "they have drawn the same for a while");
    assert.deepEqual(one, two);
    const drawn = lives.flatMap((life) => randomsOf(life.after.slice(0, TLS_PAIRS)));
    assert.ok(drawn.every((random) => /^[0-9a-f]{64}$/.test(random)));
    assert.equal(new Set(drawn).size, 2 * TLS_PAIRS);
  });

  test(`know the time to ${OFF_MAX_MS} ms when the first of their programs continues, and no clock decreases`, async () => {
    for (const { before: shared, after } of await livesOf(["source-1", "source-2"])) {
      assertBetween(forkedFromMs, after[0]?.wallMs ?? 0, forkedToMs);
      assertForward([...shared, ...after]);
    }
  });

  test("have their own hostname, machine id, boot id and SSH host keys, and no seed of the source", async () => {
    const names = ["source", "source-1", "source-2"];
    for (const [what, path] of [
      ["boot id", "/proc/sys/kernel/random/boot_id"],
      ["machine id", "/etc/machine-id"],
      ["host key", "/etc/ssh/ssh_host_ed25519_key"],
    ] as const) {
      const found = await Promise.all(names.map((name) => bed.sh(name, `cat ${path}`)));
      assert.ok(
        found.every((text) => text.length > 20),
        what,
      );
      assert.equal(new Set(found).size, names.length, `each has its own ${what}`);
    }
    for (const name of names) {
      const script = 'hostname; cat /etc/hostname; grep -c "\\b$(hostname)\\b" /etc/hosts; hostname -f';
      assert.equal(await bed.sh(name, script), `${name}\n${name}\n1\n${name}\n`);
      assert.equal((await bed.hearth(["exec", name, "--", "cat", "/var/lib/systemd/random-seed"])).code, 1);
    }
  });
});

describe("two VMs that are made of one snapshot, seconds later", () => {
  let startedFromMs = 0;
  let startedToMs = 0;

  before(async () => {
    await bed.ok(["rm", "-f", "source-1", "source-2"]);
    await bed.ok(["snapshot", "create", "source", "old"]);
    const savedAt = performance.now();
    await bed.until(() => performance.now() - savedAt > 5_000); // What was saved gets old.
    startedFromMs = Date.now();
    for (const name of ["one", "two"]) await bed.ok(["create", "--name", name, "--snapshot", "old"]);
    startedToMs = Date.now();
  });

  test(`never draw the same, ${PAIRS} times of ${PAIRS}`, async () => {
    const lives = await livesOf(["one", "two"]);
    assertSameBefore(lives);
    assertOthersAfter(lives);
  });

  test(`know the time to ${OFF_MAX_MS} ms when the first of their programs continues`, async () => {
    for (const { before: shared, after } of await livesOf(["one", "two"])) {
      const last = shared.at(-2)?.wallMs ?? 0;
      assert.ok(startedFromMs - last > 5_000, "the clock that was saved is far off");
      assertBetween(startedFromMs, after[0]?.wallMs ?? 0, startedToMs);
      assertForward([...shared, ...after]);
    }
  });

  test("that goes back to it keeps its own name and machine id, and draws what it never drew", async () => {
    const machineId = await bed.sh("source", "cat /etc/machine-id");
    const drawn = new Set(randomsOf(await drawsOf(bed, "source", PAIRS)));
    const [saved] = await livesOf(["one"]);
    await bed.ok(["snapshot", "restore", "old"]);
    assert.equal(await bed.sh("source", "hostname; cat /etc/machine-id"), `source\n${machineId}`);
    const again = await drawsOf(bed, "source", (saved?.before.length ?? 0) + PAIRS);
    const since = again.slice(saved?.before.length ?? 0);
    const twice = randomsOf(since).filter((random) => drawn.has(random));
    assert.deepEqual(twice, []);
  });
});

async function dateMs(): Promise<readonly [number, number, number]> {
  const fromMs = Date.now();
  const wall = await bed.sh("source", "date +%s.%N");
  return [fromMs, 1000 * Number(wall), Date.now()];
}

test("a guest whose CPUs are all busy does not fall behind the time", async () => {
  const busy = "for n in 1 2 3; do (while :; do date > /dev/null; done) & done; wait";
  await bed.ok(["exec", "-d", "source", "--", "timeout", "60", "sh", "-c", busy]);
  const startedAt = performance.now();
  await bed.until(() => performance.now() - startedAt > BUSY_MS);
  assertBetween(...(await dateMs()));
  await bed.sh("source", "kill $(pidof timeout)");
});

test("a VM that was suspended for seconds knows the time to half a second in its first command", async () => {
  assertBetween(...(await dateMs()));
  await bed.ok(["suspend", "source"]);
  const suspendedAt = performance.now();
  await bed.until(() => performance.now() - suspendedAt > 5_000);
  assertBetween(...(await dateMs()));
  const draws = await drawsOf(bed, "source", PAIRS);
  const gaps = draws.map(({ wallMs }, index) => wallMs - (draws[index - 1]?.wallMs ?? wallMs));
  assert.ok(Math.max(...gaps) > 5_000, "its program slept with it");
  assertForward(draws);
});

for (const pause of ["suspend", "pause"]) {
  test(`after a ${pause} for an hour it knows the time in its first command`, async () => {
    // An hour of the host's is an hour that the guest is behind.
    await bed.sh("source", 'date --set="1 hour ago"');
    const [, wallMs, nowMs] = await dateMs();
    assert.ok(nowMs - wallMs > 3_500_000, "its clock can be wrong");
    await bed.ok([pause, "source"]);
    await bed.ok(["resume", "source"]);
    assertBetween(...(await dateMs()));
  });
}

test("a guest that cannot renew its SSH host keys never runs as a copy: a fork fails, and a suspended VM stays suspended", async () => {
  await bed.sh("source", "mount --bind /etc/ssh /etc/ssh && mount -o remount,bind,ro /etc/ssh");
  const why = /^error: .*could not renew its SSH host keys \(ed25519: .*read-only file system/im;
  const fork = await bed.hearth(["fork", "--name", "copy", "source"]);
  assert.equal(fork.code, 1);
  assert.match(fork.stderr, why);
  assert.ok((await bed.vms()).every(({ name }) => name !== "copy"));
  assert.equal(await bed.sh("source", "hostname"), "source\n");
  await bed.ok(["suspend", "source"]);
  const resumed = await bed.hearth(["resume", "source"]);
  assert.equal(resumed.code, 1);
  assert.match(resumed.stderr, why);
  assert.equal((await bed.vm("source")).phase, "suspended");
});
