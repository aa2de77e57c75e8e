/** Files of Hearth's own that were damaged: found out before anything is started, and left as they are. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  closeSync,
  cpSync,
  existsSync,
  globSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { runOrThrow } from "#host/run.ts";
import { Bed } from "./bed.ts";

const bed = new Bed();
const store = join(bed.dirs.state, "hearth.db");
/** An image cache that may be damaged. */
const OWN_CACHE = { XDG_CACHE_HOME: join(bed.dir, "cache") };

before(async () => {
  await bed.ok(["image", "build", "debian"]);
  await bed.ok(["daemon", "stop"]);
  const signal = new AbortController().signal;
  const copy = [
    "-a",
    "--sparse=always",
    "--reflink=auto",
    `${bed.env["XDG_CACHE_HOME"]}/.`,
    OWN_CACHE.XDG_CACHE_HOME,
  ];
  await runOrThrow("cp", copy, { timeoutMs: 120_000, signal });
});

test("a corrupt image: nothing is started on it, the error has the fix, and a running VM keeps running", async () => {
  const env = OWN_CACHE;
  await bed.ok(["create", "--name", "runs", "debian"], { env });
  await bed.ok(["create", "--no-start", "--name", "waits", "debian"], { env });
  const { imageDigest } = await bed.vm("runs");
  const [base = ""] = globSync(
    join(env.XDG_CACHE_HOME, `hearth/images/${imageDigest.replace("sha256:", "")}/base.ext4`),
  );
  flipLastByte(base);
  const result = await bed.hearth(["start", "waits", "--json"], { env });
  assert.equal(result.code, 1);
  assert.match(result.stdout + result.stderr, /"code": ?"image\.corrupt"[^}]*hearth image build debian/);
  assert.equal(bed.vmms().length, 1, "only the one from before");
  assert.equal(await bed.sh("runs", "echo alive"), "alive\n");
  const { phase, lastError } = await bed.vm("waits");
  assert.notEqual(phase, "running");
  assert.equal(lastError?.code, "image.corrupt");
  flipLastByte(base);
  await bed.ok(["start", "waits"], { env });
  await bed.ok(["rm", "-f", "runs", "waits"], { env });
  await bed.ok(["daemon", "stop"]);
  assert.deepEqual(bed.leftovers(), []);
});

test("where Hearth was never used before, doctor finds nothing wrong: the store is made when it is needed", async () => {
  const home = join(bed.dir, "new");
  const env = { HEARTH_HOME: home };
  assert.equal(existsSync(home), false);
  assert.match(await bed.ok(["doctor"], { env }), /^pass +hearthd: /m);
  await bed.ok(["daemon", "stop"], { env });
});

test("a corrupt store: store.corrupt with the fix, and the file stays as it is", async () => {
  await bed.ok(["create", "--no-start", "--name", "kept", "debian"]);
  await bed.ok(["daemon", "stop"]);
  const sound = readFileSync(store);
  const broken = Buffer.from(sound);
  broken.fill(0x5a, 100, 3000);
  for (const bytes of [broken, Buffer.from("this is no database\n".repeat(500)), sound.subarray(0, 5000)]) {
    writeFileSync(store, bytes);
    const result = await bed.hearth(["ls", "--json"]);
    assert.equal(result.code, 1);
    assert.match(result.stdout + result.stderr, /"code": ?"store\.corrupt"[^}]*"hint"/);
    assert.equal(sha256(readFileSync(store)), sha256(bytes), "untouched");
    assert.equal(bed.daemon(), undefined);
  }
  const doctor = await bed.hearth(["doctor"]);
  assert.equal(doctor.code, 1, "that hearthd cannot start is a check as well");
  writeFileSync(store, sound);
  assert.equal((await bed.vm("kept")).phase, "created");
  await bed.ok(["rm", "kept"]);
});

test("a store of a newer Hearth: store.too_new, and the file stays as it is", async () => {
  await bed.ok(["daemon", "stop"]);
  const sound = readFileSync(store);
  const newer = Buffer.from(sound);
  newer.writeUInt32BE(4_000, 60); // user_version: sqlite.org/fileformat.html
  writeFileSync(store, newer);
  const result = await bed.hearth(["ls", "--json"]);
  assert.equal(result.code, 1);
  assert.match(result.stdout + result.stderr, /"code": ?"store\.too_new"/);
  assert.equal(sha256(readFileSync(store)), sha256(newer));
  writeFileSync(store, sound);
  await bed.ok(["ls"]);
});

test("a config file that is wrong: config.invalid with the nearest key", async () => {
  await bed.ok(["daemon", "stop"]);
  cpSync(bed.dirs.state, join(bed.dir, "state before"), { recursive: true });
  await runOrThrow("mkdir", ["-p", bed.dirs.config], {
    timeoutMs: 5_000,
    signal: new AbortController().signal,
  });
  const config = join(bed.dirs.config, "config.toml");
  writeFileSync(config, '[health]\nkill_atfer = "1m"\n');
  const result = await bed.hearth(["ls"]);
  assert.equal(result.code, 2);
  assert.match(result.stderr, /^error: .*config\.toml.*kill_atfer.*\nhint: .*kill_after/m);
  renameSync(config, `${config}.wrong`);
  await bed.ok(["ls"]);
});

function flipLastByte(path: string): void {
  const file = openSync(path, "r+");
  const at = statSync(path).size - 1;
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, at);
  byte[0] = (byte[0] ?? 0) ^ 0xff;
  writeSync(file, byte, 0, 1, at);
  closeSync(file);
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
