/** Faults of the host are errors with a fix, and damage nothing. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { Bed } from "./bed.ts";
import { cannotMount, runWithMounts } from "./private-mounts.ts";
import type { CliResult } from "./run-cli.ts";

const skip = await cannotMount();
const QEMU = "qemu-system-x86_64";

before(async () => void (await new Bed().ok(["image", "build", "debian"])));

/** Commands of `sh -c script`, where `$H` is hearth and the mounts are in place. */
function inside(bed: Bed, mounts: readonly string[], script: string): Promise<CliResult> {
  mkdirSync(bed.dirs.state, { recursive: true });
  const words = `hearth() { "${process.execPath}" "${bed.program}" "$@"; }\n${script}`;
  return runWithMounts(mounts, ["sh", "-c", words], { env: bed.env, timeoutMs: 300_000 });
}

/** A state directory that holds so much. */
function stateOf(bed: Bed, size: string): string[] {
  return [`mount -t tmpfs -o size=${size} none "${bed.dirs.state}"`];
}

describe("a full disk", { skip }, () => {
  test("while a VM is made: host.disk_full with the fix, no VM is left, and there is room for one after", async () => {
    const bed = new Bed();
    const script = `
      hearth daemon start
      fallocate -l 100M "$XDG_STATE_HOME/hearth/ballast" || head -c 100M /dev/zero > "$XDG_STATE_HOME/hearth/ballast" || true
      hearth --json create --no-start --name web debian; echo "code $?"
      hearth ls --json
      rm "$XDG_STATE_HOME/hearth/ballast"
      hearth create --no-start --name web debian`;
    const { code, stdout, stderr } = await inside(bed, stateOf(bed, "32M"), script);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /"code": ?"host\.disk_full"[^}]*"hint"/);
    assert.match(stdout, /code 1\n\[\]\nweb\n$/);
  });

  test("the fix works on the full disk: VMs that do not run are removed", async () => {
    const bed = new Bed();
    const script = `
      for name in one two three; do hearth create --no-start --name $name debian; done
      head -c 1G /dev/zero > "$XDG_STATE_HOME/hearth/ballast" || true
      hearth rm one
      hearth prune -f
      hearth ls --json`;
    const { code, stdout, stderr } = await inside(bed, stateOf(bed, "32M"), script);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^one\ntwo\nthree\none\n(two\nthree|three\ntwo)\n\[\]\n$/);
  });

  test("while a VM runs: it is paused with the cause, and loses nothing when it is resumed with room", async () => {
    const bed = new Bed();
    // The command runs beside the script: a write of the guest's own may pause the VM before the command has started.
    const script = `
      hearth create --name web debian
      fallocate -l 1G "$XDG_STATE_HOME/hearth/ballast" || head -c 1G /dev/zero > "$XDG_STATE_HOME/hearth/ballast" || true
      hearth exec -d web -- sh -c 'head -c 50000000 /dev/zero | tr "\\0" x > /root/big; sync /root/big && touch /run/written' > /dev/null &
      until hearth ls | grep -q "paused, disk full"; do sleep 0.2; done
      hearth show web | grep -o "host is full"
      hearth --json resume web; echo "resume $?"
      rm "$XDG_STATE_HOME/hearth/ballast"
      hearth resume web
      hearth exec web -- sh -c 'until test -e /run/written; do sleep 0.1; done; echo 3 > /proc/sys/vm/drop_caches; tr -d x < /root/big | wc -c; wc -c < /root/big'
      hearth stop web`;
    const { code, stdout, stderr } = await inside(bed, stateOf(bed, "80M"), script);
    assert.match(
      stdout,
      /host is full\n[^]*"code": ?"host\.disk_full"[^]*resume 1\nweb\n0\n50000000\nweb\n$/,
      stderr,
    );
    assert.equal(code, 0, stderr);
  });
});

test(
  "a VM is not saved on a disk without room: it runs on, and the disk of another VM gets no error",
  { skip },
  async () => {
    const bed = new Bed();
    const script = `
    for name in web other; do hearth create --name $name debian; done
    hearth --json snapshot create web one; echo "snapshot $?"
    hearth --json fork web; echo "fork $?"
    hearth --json suspend web; echo "suspend $?"
    hearth snapshot ls -q
    for name in web other; do hearth exec $name -- sh -c 'head -c 8000000 /dev/urandom > /root/big && sync /root/big'; echo "write $?"; done`;
    const { stdout, stderr } = await inside(bed, stateOf(bed, "300M"), script);
    const failed = (what: string): string => `[^]*"code": ?"host\\.disk_full"[^]*${what} 1\n`;
    const all = ["snapshot", "fork", "suspend"].map(failed).join("");
    assert.match(stdout, new RegExp(`${all}write 0\nwrite 0\n$`), stderr);
  },
);

test("a read-only state directory: host.read_only with the fix", { skip }, async () => {
  const bed = new Bed();
  const mounts = [...stateOf(bed, "8M"), `mount -o remount,ro "${bed.dirs.state}"`];
  const { code, stdout, stderr } = await inside(bed, mounts, "hearth ls --json");
  assert.equal(code, 1);
  assert.match(stdout + stderr, /"code": ?"host\.read_only"[^}]*"hint"/);
});

test("no QEMU: vmm.missing with the package that brings it, and no VM is left", { skip }, async () => {
  const bed = new Bed({ hostQemu: true });
  const mounts = without(bed, QEMU);
  const script = `
    hearth doctor | grep -A2 qemu
    hearth --json run --rm debian -- true; echo "code $?"
    hearth ls --json`;
  const { stdout, stderr } = await inside(bed, mounts, script);
  assert.match(stdout, /fail.*qemu|qemu.*fail/i, stderr);
  assert.match(stdout + stderr, /"code": ?"vmm\.missing"[^}]*apt-get install qemu-system-x86/);
  assert.match(stdout, /code 125\n\[\]\n$/);
});

test(
  "no bubblewrap: refused with its package and with the flags that do without, and those do",
  { skip },
  async () => {
    const bed = new Bed();
    const script = `
    hearth doctor | grep jail
    hearth --json run --rm debian -- true; echo "code $?"
    hearth ls --json
    hearth run --rm --no-jail --no-pid-ns debian -- echo without`;
    const { code, stdout, stderr } = await inside(bed, without(bed, "bwrap"), script);
    assert.match(stdout, /fail.*jail|jail.*fail/i, stderr);
    assert.match(stdout + stderr, /"hint": ?"[^"]*apt-get install bubblewrap[^"]*--no-jail --no-pid-ns/);
    assert.match(stdout, /code 125\n\[\]\nwithout\n$/);
    assert.equal(code, 0, stderr);
    assert.deepEqual(bed.uidLeases(), []);
  },
);

/** Mounts with which this program is not there. */
function without(bed: Bed, program: string): string[] {
  const layers = join(bed.dir, "layers");
  mkdirSync(layers);
  // Character device 0:0 in an overlay's upper layer means that the file is not there.
  const hidden = ["/usr/bin", "/usr/local/bin", "/usr/sbin"].map((dir, index) => [
    `mkdir ${layers}/u${index} ${layers}/w${index}`,
    `mknod ${layers}/u${index}/${program} c 0 0`,
    `mount -t overlay -o lowerdir=${dir},upperdir=${layers}/u${index},workdir=${layers}/w${index} none ${dir}`,
  ]);
  return [`mount -t tmpfs none ${layers}`, ...hidden.flat()];
}
