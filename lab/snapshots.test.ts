/**
 * Warm starts, snapshots, forks and sleep with hardware virtualization: the same promises on each driver. What they
 * do not depend on is in e2e/, on emulated VMs.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import type { Hearth } from "#sdk/hearth.ts";
import type { HearthVm } from "#sdk/hearth-vm.ts";
import { Bed } from "../e2e/bed.ts";
import { CHECK, NOTED, WRITER } from "../e2e/synced-writer.ts";

/** A guest's clock may be off by so much when its first command runs. */
const CLOCK_MS = 500;
const SOURCE = "src";
/** A flag of a CPU. */
const VIRTUALIZATION = /^flags\s*:.*\b(vmx|svm)\b/m;

for (const driver of ["firecracker", "qemu"] as const) {
  describe(`with ${driver}`, () => {
    const config = `[defaults]\ndriver = "${driver}"\ncpus = 1\nmemory = "256M"\n`;
    const bed = new Bed({ config, warm: true });
    let hearth: Hearth;
    let source: HearthVm;

    // QEMU's saves do not depend on what runs the guest: e2e/ has these on emulated VMs.
    const testUnlessQemu = driver === "qemu" ? (): void => {} : test;

    before(async () => {
      hearth = await bed.connect();
      await bed.ok(["warm", "build", "debian"]);
    });

    const sh = async (vm: HearthVm, script: string): Promise<string> => {
      const { stdout, stderr, exitCode } = await vm.exec(["sh", "-c", script]);
      assert.equal(exitCode, 0, stderr);
      return stdout.trim();
    };
    const identity = (vm: HearthVm): Promise<string> =>
      sh(vm, "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; od -An -N16 -tx1 /dev/urandom");
    const assertOnTime = async (vm: HearthVm): Promise<void> => {
      const asked = Date.now();
      const guest = Number(await sh(vm, "date +%s%3N"));
      assert.ok(guest >= asked - CLOCK_MS && guest <= Date.now() + CLOCK_MS, `the guest says ${guest}`);
    };

    test("a guest does not see that the host's CPU can run VMs", async () => {
      assert.match(readFileSync("/proc/cpuinfo", "utf8"), VIRTUALIZATION, "the host sees it");
      source = await hearth.vms.create({ image: "debian", name: SOURCE });
      await source.start();
      assert.doesNotMatch(await sh(source, "cat /proc/cpuinfo"), VIRTUALIZATION);
    });

    test("a VM starts from a template, and one that is told to be cold does not", async () => {
      const shown = await source.show();
      assert.ok(shown.restoredFrom);
      assert.equal(shown.accel, "kvm");
      const cold = await hearth.vms.create({ image: "debian", cold: true, noWarm: true });
      await cold.start();
      assert.equal((await cold.show()).restoredFrom, undefined);
      await cold.remove({ force: true });
    });

    test("two VMs of one template have names, ids, random numbers and clocks of their own", async () => {
      const other = await hearth.vms.create({ image: "debian" });
      await other.start();
      const [one, two] = [await identity(source), await identity(other)].map((text) => text.split("\n"));
      assert.equal(one?.length, 4);
      for (const [index, line] of (one ?? []).entries()) assert.notEqual(line, two?.[index]);
      await assertOnTime(other);
      await other.remove({ force: true });
    });

    test("a snapshot has memory and disk of one moment, and the VM keeps running", async () => {
      await sh(source, "echo disk > /root/note; echo memory > /run/note; sync");
      await hearth.snapshots.create({ vm: SOURCE, name: "s1" });
      await sh(source, "echo later > /root/note; echo later > /run/note; sync");
      const copy = await hearth.vms.create({ snapshot: "s1", name: "copy" });
      await copy.start();
      assert.equal(await sh(copy, "cat /root/note /run/note; hostname"), "disk\nmemory\ncopy");
      assert.equal(await sh(source, "cat /root/note /run/note"), "later\nlater");
      await assertOnTime(copy);
    });

    test("a snapshot that a VM maps cannot be removed, and no process may write to it", async () => {
      const removed = await bed.hearth(["snapshot", "rm", "s1"]);
      assert.equal(removed.code, 1);
      assert.match(removed.stderr, /used by copy/);
      const dir = join(bed.dirs.state, "snapshots");
      for (const id of readdirSync(dir))
        assert.equal(statSync(join(dir, id, "state")).mode & 0o222, 0, "no state can be written");
      await bed.ok(["rm", "-f", "copy"]);
    });

    test("a VM goes back to its snapshot", async () => {
      await hearth.snapshots.restore("s1");
      assert.equal(await sh(source, "cat /root/note /run/note"), "disk\nmemory");
    });

    testUnlessQemu("a damaged memory is refused before anything starts", async () => {
      const { id } = await hearth.snapshots.show("s1");
      await bed.ok(["stop", SOURCE]);
      writeFileSync(join(bed.dirs.state, "snapshots", id, "memory"), "x", { flag: "r+" });
      await hearth.vms.create({ snapshot: "s1", name: "broken" });
      const vmms = bed.vmms().length;
      const started = await bed.hearth(["start", "broken"]);
      assert.match(started.stderr, /damaged/);
      assert.equal(bed.vmms().length, vmms);
      await bed.ok(["rm", "-f", "broken"]);
      await bed.ok(["snapshot", "rm", "s1"]);
      await bed.ok(["start", SOURCE]);
    });

    test("forks resume where the source is, each with its own identity", async () => {
      await sh(source, "echo forked > /run/note");
      const forks = await source.fork({ count: 2 });
      const seen = await Promise.all(forks.map((fork) => identity(fork)));
      const lines = [...seen, await identity(source)].flatMap((text) => text.split("\n"));
      assert.equal(new Set(lines).size, lines.length, "no line is equal to another one");
      for (const fork of forks) assert.equal(await sh(fork, "cat /run/note"), "forked");
      await bed.ok(["rm", "-f", ...forks.map(({ name }) => name)]);
    });

    testUnlessQemu(
      "of a VM that is saved while it writes, everything that was synced is whole in its copy",
      async () => {
        await bed.ok(["exec", "-d", SOURCE, "--", "bash", "-c", WRITER]);
        await bed.until(async () => Number(await sh(source, NOTED)) > 5);
        await hearth.snapshots.create({ vm: SOURCE, name: "busy" });
        const copy = await hearth.vms.create({ snapshot: "busy" });
        await copy.start();
        const [noted, ...wrong] = (await sh(copy, CHECK)).split("\n").toReversed();
        assert.deepEqual(wrong, []);
        assert.ok(Number(noted) > 5, `${noted} files were noted`);
        assert.doesNotMatch(await sh(copy, "dmesg"), /EXT4-fs (error|warning)|I\/O error/);
        await copy.remove({ force: true });
        await bed.ok(["snapshot", "rm", "busy"]);
        await sh(source, "kill $(cat /run/writer)");
      },
    );

    test("a VM that is suspended has no VMM, and resumes for a command with all that it had", async () => {
      // The guest's clock is an hour behind, as after a suspend of an hour.
      await sh(source, "echo asleep > /run/note; date --set='1 hour ago'");
      await source.suspend();
      assert.equal((await source.show()).phase, "suspended");
      assert.deepEqual(bed.vmms(), []);
      assert.equal(await sh(source, "cat /run/note"), "asleep");
      await assertOnTime(source);
    });

    test("a command under way ends with an error, and fifty at once are served right after a restore", async () => {
      await using command = await source.spawn(["sh", "-c", "echo runs; exec sleep 1000"]);
      await once(command.stdout, "data");
      const ended = assert.rejects(command.exited, { code: "agent.unreachable" });
      await source.suspend();
      await ended;
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, index) => sh(source, `echo ${index}`)),
      );
      assert.deepEqual(
        answers,
        answers.map((_, index) => String(index)),
      );
      // Nobody reads what that command says.
      await bed.until(async () => (await sh(source, "pidof sleep || true")) === "");
    });

    test("nothing is left of all that", async () => {
      for (const vm of await hearth.vms.list()) await bed.ok(["rm", "-f", vm.name]);
      assert.deepEqual(bed.vmms(), []);
    });
  });
}
