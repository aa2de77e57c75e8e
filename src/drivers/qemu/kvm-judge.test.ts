import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { KvmJudge } from "#drivers/qemu/kvm-judge.ts";

const never = new AbortController().signal;
const BOOT = { kernel: "/none", initramfs: "/none" };

test("many who ask at the same time wait for one boot, and later ones for none", async () => {
  const folder = mkdtempSync(join(tmpdir(), "judge-"));
  const program = join(folder, "qemu");
  const starts = join(folder, "starts");
  const script = `case "$*" in
    --version) echo "QEMU emulator version 9.9.9" ;;
    *netdev*) ;;
    *) echo x >> ${starts}; exit 1 ;;
  esac`;
  writeFileSync(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const boots = (): number => readFileSync(starts, "utf8").trim().split("\n").length;
  const judge = new KvmJudge({ cacheFile: join(folder, "kvm.json"), program, kvmDevice: "/dev/null" });

  assert.equal(await judge.accelSoFar(never), "tcg");
  const answers = await Promise.all([1, 2, 3].map(() => judge.accelFor(BOOT, never)));
  assert.deepEqual(answers, ["tcg", "tcg", "tcg"]);
  assert.equal(boots(), 1);
  await judge.accelFor(BOOT, never);
  assert.equal(boots(), 1);
  assert.equal((await judge.judge(BOOT, true, never)).booted, true);
  assert.equal(boots(), 2);
  rmSync(folder, { recursive: true });
});
