/**
 * A program that has taken a restored VM's VMM over: with its jail, its uid and its descriptors, but not its manners.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { QemuDriver } from "#drivers/qemu/qemu-driver.ts";
import { PrivilegedVerbs } from "#helper/privileged-verbs.ts";
import { sha256 } from "#host/hash-file.ts";
import { parseSnapshotId } from "#model/ids.ts";
import { TinyVms } from "./tiny-vms.ts";

/** Nothing else on a test host has it. */
const UID = 1_999_000_000;
const JAILED = {
  ...NO_ISOLATION,
  jail: true,
  pidNamespace: true,
  uid: process.geteuid?.() === 0 ? UID : undefined,
};
const MEMORY = Buffer.alloc(1024 * 1024, "guest memory");
const SNAPSHOT = parseSnapshotId("sn-aaaaaaaaaaaa");
const never = new AbortController().signal;

type TakenOver = { readonly version: string; readonly shared: string; readonly runDir: string };

/** Answers as a QEMU of that version, and as a VMM tries what it can to change the file. Says what worked. */
function takenOver({ version, shared, runDir }: TakenOver): string {
  return `#!/bin/sh
case "$*" in
  --version) echo "QEMU emulator version ${version}"; exit ;;
  *-netdev*|*"-L help"*) exit ;;
esac
try() { name=$1; shift; if "$@" 2>/dev/null; then echo "$name: yes" >&2; else echo "$name: no" >&2; fi; }
for word; do
  case $word in *mem-path=*) mapped=$(echo "$word" | sed 's/.*mem-path=//; s/,share=.*//; s/,,/,/g') ;; esac
done
shared='${shared}'
try "may write to its run directory" sh -c 'printf x > "$0"' '${runDir}/written'
try "maps a file of its own" sh -c 'printf x 1<> "$0"' "$mapped"
try "write" sh -c 'printf x 1<> "$0"' "$shared"
try "punch a hole" fallocate --punch-hole --offset 0 --length 4096 "$shared"
try "cut" truncate --size 0 "$shared"
try "change the mode" chmod 0666 "$shared"
try "mount it again" mount -o remount,rw "$shared"
try "remove" unlink "$shared"
try "replace" mv -f '${runDir}/written' "$shared"
for fd in 0 3 4 5 6 7 8 9; do try "write to descriptor $fd" sh -c "printf x >&$fd"; done
rm -f '${runDir}/written'
exit 1
`;
}

for (const version of ["7.2.22", "10.0.2"]) {
  describe(`a VMM that was taken over, where QEMU is ${version}`, () => {
    test("cannot change what it was restored from, by any path or descriptor that it has", async () => {
      await using vms = new TinyVms(JAILED);
      const saved = await sealed(vms);
      const kernel = join(vms.dir, "vmlinuz");
      writeFileSync(kernel, "");
      const plan = await vms.plan("wait", { kernel });
      const program = install(vms.dir, { version, shared: saved.memory, runDir: plan.runDir });
      const driver = new QemuDriver({ program });
      await assert.rejects(
        driver.snapshotter.restore(plan, saved, () => {}, never),
        {
          code: "snapshot.failed",
        },
      );
      const said = readFileSync(join(plan.stateDir, "vmm.log"), "utf8");
      const worked = [...said.matchAll(/^(.*): yes$/gm)].map(([, what]) => what);
      const own = version.startsWith("7.") ? ["maps a file of its own"] : [];
      assert.deepEqual(worked, ["may write to its run directory", ...own], said);
      assert.match(said, /^write: no$/m, "it was tried");
      assert.equal(sha256(readFileSync(saved.memory)), sha256(MEMORY));
      assert.equal(statSync(saved.memory).mode & 0o777, 0o444);
      assert.equal(readFileSync(saved.state, "utf8"), "state");
      assert.equal(existsSync(join(plan.stateDir, "memory.own")), false, "no copy is left");
    });
  });
}

/** A snapshot's files, sealed as hearthd seals them. */
async function sealed(vms: TinyVms) {
  const snapshots = join(vms.dir, "snapshots");
  const dir = join(snapshots, SNAPSHOT);
  mkdirSync(dir, { recursive: true });
  const saved = { memory: join(dir, "memory"), state: join(dir, "state") };
  writeFileSync(saved.memory, MEMORY);
  writeFileSync(saved.state, "state", { mode: 0o444 });
  const none = join(vms.dir, "none");
  const others = { runs: none, jails: none, leases: none, networks: none, cgroups: none };
  const roots = { vms: none, volumes: none, snapshots, ...others };
  await new PrivilegedVerbs({ roots, uids: { first: UID, count: 1 } }).sealMemory(SNAPSHOT);
  return saved;
}

/** With a firmware beside it, as a QEMU that was unpacked somewhere has it. */
function install(dir: string, how: TakenOver): string {
  const prefix = join(dir, "taken-over");
  mkdirSync(join(prefix, "bin"), { recursive: true });
  mkdirSync(join(prefix, "share/qemu"), { recursive: true });
  writeFileSync(join(prefix, "share/qemu/qboot.rom"), "");
  const program = join(prefix, "bin/qemu-taken-over");
  writeFileSync(program, takenOver(how), { mode: 0o755 });
  return program;
}
