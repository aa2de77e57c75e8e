/** An image is there as long as somebody needs it, and its templates no longer than it. */
import assert from "node:assert/strict";
import { existsSync, globSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { runOrThrow } from "#host/run.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed({ warm: true });
/** An image cache from which images may be removed; the first hearthd has it, and all others. */
const env = { XDG_CACHE_HOME: join(bed.dir, "cache") };

function images(): string[] {
  return globSync(join(env.XDG_CACHE_HOME, "hearth/images/*/base.ext4"));
}

before(async () => {
  await bed.ok(["image", "build", "debian"]);
  await bed.ok(["daemon", "stop"]);
  const from = join(bed.env["XDG_CACHE_HOME"] ?? "", "hearth");
  const options = { timeoutMs: 120_000, signal: AbortSignal.timeout(120_000) };
  await runOrThrow("mkdir", ["-p", env.XDG_CACHE_HOME], options);
  await runOrThrow("cp", ["-a", "--sparse=always", "--reflink=auto", from, env.XDG_CACHE_HOME], options);
  await bed.ok(["template", "build", ...SMALL, "debian"], { env });
});

test("the image of a snapshot is not removed, and the error names the snapshot and the fix", async () => {
  await bed.ok(["create", "--name", "web", ...SMALL, "debian"], { env });
  await bed.ok(["snapshot", "create", "web", "kept"], { env });
  const used = await bed.hearth(["image", "rm", "debian"], { env });
  assert.equal(used.code, 1);
  assert.match(used.stderr, /^error: .* is used by web, snapshot kept\.\nhint: .*hearth snapshot ls/m);
  await bed.ok(["rm", "-f", "web"], { env });
  const refused = await bed.hearth(["image", "rm", "debian"], { env });
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /^error: .* is used by snapshot kept\.\nhint: .*hearth snapshot ls/m);
  await bed.ok(["create", "--name", "heir", "--snapshot", "kept"], { env });
  assert.equal(await bed.sh("heir", "hostname"), "heir\n", "nothing of the image has gone");
  await bed.ok(["rm", "-f", "heir"], { env });
  await bed.ok(["snapshot", "rm", "kept"], { env });
});

test("the image of a template is removed, and the template with it", async () => {
  const many = images().length;
  assert.notEqual(await bed.ok(["template", "ls", "-q"], { env }), "");
  const { digest } = JSON.parse(await bed.ok(["image", "show", "--json", "debian"], { env })) as {
    digest: string;
  };
  await bed.ok(["image", "rm", "debian"], { env });
  assert.equal(images().length, many - 1);
  assert.ok(!existsSync(join(env.XDG_CACHE_HOME, "hearth/images", digest.replace("sha256:", ""))));
  assert.equal(await bed.ok(["template", "ls", "-q"], { env }), "");
  assert.deepEqual(bed.leftovers(), []);
});
