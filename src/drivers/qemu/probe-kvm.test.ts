import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { findKvmVerdict, probeKvm } from "#drivers/qemu/probe-kvm.ts";
import type { KvmProbe } from "#drivers/qemu/probe-kvm.ts";
import { writeFakeQemu } from "#testing/fake-qemu.ts";

/** Root may open any device. */
const IS_ROOT = process.geteuid?.() === 0 && "root may open any device";
const never = new AbortController().signal;

/** A host whose /dev/kvm is `device`, with a program in QEMU's place that counts its starts. */
class Host implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), "kvm-"));
  readonly starts = join(this.dir, "started");

  probe(script: string, more: Partial<KvmProbe> = {}): KvmProbe {
    const program = writeFakeQemu(this.dir, `echo x >> ${this.starts}\n${script}`);
    const cacheFile = join(this.dir, "kvm.json");
    const files = { kernel: "/none", initramfs: "/none", readyLine: /ready/, cacheFile, program };
    return { ...files, version: "7.2.22", kvmDevice: "/dev/null", ...more };
  }
  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true });
  }
}

describe("the probe of KVM", () => {
  test("needs no boot where there is no device", async () => {
    using host = new Host();
    const verdict = await probeKvm(host.probe("exit 1", { kvmDevice: "/nowhere/kvm" }), never);
    assert.deepEqual(verdict, { works: false, reason: "This host has no /nowhere/kvm.", booted: false });
    assert.equal(existsSync(host.starts), false);
  });

  test("stores a no with QEMU's reason, and boots only once", async () => {
    using host = new Host();
    const probe = host.probe("echo 'failed to set MSR 0x10a' >&2; exit 1");
    const first = await probeKvm(probe, never);
    assert.equal(first.works, false);
    assert.match(first.reason, /exited with code 1.*MSR 0x10a/);
    rmSync(host.starts);
    const second = await probeKvm(probe, never);
    assert.deepEqual(second, { ...first, booted: false });
    assert.deepEqual(findKvmVerdict(probe.cacheFile, probe.version), second);
    assert.equal(existsSync(host.starts), false);
  });

  test("boots again after an upgrade of QEMU, or when the stored verdict is broken", async () => {
    using host = new Host();
    const probe = host.probe("echo 'no kvm' >&2; exit 1");
    await probeKvm(probe, never);
    assert.equal((await probeKvm({ ...probe, version: "10.0.2" }, never)).booted, true);
    writeFileSync(probe.cacheFile, "{");
    assert.equal((await probeKvm(probe, never)).booted, true);
  });

  for (const [title, script] of [
    ["has no room for its files", "echo 'kvm: /tmp/x: No space left on device' >&2; exit 1"],
    ["may not use KVM yet", "echo 'Could not access KVM kernel module: Permission denied' >&2; exit 1"],
    ["has no memory for a VM", "echo 'cannot set up guest memory: Cannot allocate memory' >&2; exit 1"],
    ["was killed by the host", "kill -KILL $$"],
    ["misses a library", "echo 'error while loading shared libraries: libaio.so.1' >&2; exit 127"],
  ] as const) {
    test(`a QEMU that ${title} gives no verdict about KVM: the next probe boots again`, async () => {
      using host = new Host();
      const probe = host.probe(script);
      assert.equal((await probeKvm(probe, never)).works, false);
      assert.equal(findKvmVerdict(probe.cacheFile, probe.version), undefined);
      assert.equal((await probeKvm(probe, never)).booted, true);
    });
  }

  test(
    "needs no boot where hearthd may not open the device, and stores no verdict",
    { skip: IS_ROOT },
    async () => {
      using host = new Host();
      const kvmDevice = join(host.dir, "device");
      writeFileSync(kvmDevice, "", { mode: 0o000 });
      const probe = host.probe("exit 1", { kvmDevice });
      const { works, reason, booted } = await probeKvm(probe, never);
      assert.deepEqual({ works, booted }, { works: false, booted: false });
      assert.match(reason, /cannot open .*device \(EACCES\)/);
      assert.equal(existsSync(probe.cacheFile), false);
    },
  );

  test("boots again a day after a no, as the host may have been overloaded", async () => {
    using host = new Host();
    let now = 1_000_000;
    const probe = host.probe("echo 'no kvm' >&2; exit 1", { now: () => now });
    assert.equal((await probeKvm(probe, never)).booted, true);
    now += 23 * 3_600_000;
    assert.equal((await probeKvm(probe, never)).booted, false);
    now += 2 * 3_600_000;
    assert.equal((await probeKvm(probe, never)).booted, true);
  });

  test("boots again after a no and a reboot of the host", async () => {
    using host = new Host();
    const probe = host.probe("echo 'no kvm' >&2; exit 1");
    await probeKvm(probe, never);
    const kept = JSON.parse(readFileSync(probe.cacheFile, "utf8")) as object;
    writeFileSync(probe.cacheFile, JSON.stringify({ ...kept, bootId: "another" }));
    assert.equal((await probeKvm(probe, never)).booted, true);
  });

  test("takes silence until the deadline for a no", async () => {
    using host = new Host();
    const verdict = await probeKvm(host.probe("exec sleep 600", { silenceMs: 60 }), never);
    assert.match(verdict.reason, /did not answer within 60 ms/);
  });

  test("stores no verdict when the caller has cancelled", async () => {
    using host = new Host();
    const probe = host.probe("exec sleep 600");
    const cancel = new AbortController();
    const probing = probeKvm(probe, cancel.signal);
    cancel.abort(new Error("not wanted"));
    await assert.rejects(probing, /not wanted/);
    assert.equal(findKvmVerdict(probe.cacheFile, probe.version), undefined);
  });
});
