import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KvmVerdicts } from "#drivers/qemu/kvm-verdicts.ts";
import { writeFakeQemu } from "#testing/fake-qemu.ts";

const never = new AbortController().signal;
const BOOT = { kernel: "/none", initramfs: "/none" };

test("simultaneous callers share one boot, and later ones need none", async () => {
  const dir = mkdtempSync(join(tmpdir(), "judge-"));
  const starts = join(dir, "starts");
  const program = writeFakeQemu(dir, `echo x >> ${starts}; echo 'kvm: it is broken' >&2; exit 1`, "9.9.9");
  const boots = (): number => readFileSync(starts, "utf8").trim().split("\n").length;
  const decide = new KvmVerdicts({ cacheFile: join(dir, "kvm.json"), program, kvmDevice: "/dev/null" });

  assert.deepEqual(await decide.accelSoFar(never), { accel: "tcg", assumed: true });
  assert.equal(await decide.known(never), undefined);
  const answers = await Promise.all([1, 2, 3].map(() => decide.accelFor(BOOT, never)));
  assert.deepEqual(answers, ["tcg", "tcg", "tcg"]);
  assert.equal(boots(), 1);
  await decide.accelFor(BOOT, never);
  assert.equal(boots(), 1);
  assert.deepEqual(await decide.accelSoFar(never), { accel: "tcg", assumed: false });
  assert.equal((await decide.decide(BOOT, true, never)).booted, true);
  assert.equal(boots(), 2);
  rmSync(dir, { recursive: true });
});
