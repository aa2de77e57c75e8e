/** Rate limits and memory of a real VM: what QEMU holds, and what the guest feels. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { QmpMonitor } from "#drivers/qemu/qmp.ts";
import { connectUnix } from "#host/unix-socket.ts";
import { Bed } from "./bed.ts";

const bed = new Bed();
const QMP_MS = 10_000;

type Throttle = { readonly bps: number; readonly bps_max?: number; readonly iops: number };

/**
 * Asks QEMU for its limits of each disk, by letter. QEMU serves one client, so hearthd ends first; VMs keep running.
 */
async function throttles(name: string): Promise<Throttle[]> {
  const { paths } = await bed.vm(name);
  await bed.ok(["daemon", "stop"]);
  await bed.until(() => bed.daemon() === undefined);
  const socket = await connectUnix(join(paths.sockets, "qmp.sock"), "anyone", AbortSignal.timeout(QMP_MS));
  const monitor = await QmpMonitor.open(socket, () => {}, QMP_MS);
  try {
    const blocks = await monitor.send("query-block", undefined, QMP_MS);
    return (blocks as unknown as { inserted: Throttle }[]).map(({ inserted }) => inserted);
  } finally {
    monitor.close();
  }
}

/** How long the guest itself takes to write a MiB past its cache. */
async function writeMs(path: string): Promise<number> {
  const script =
    `a=$(cut -d' ' -f1 /proc/uptime); dd if=/dev/zero of=${path} bs=64K count=16 oflag=direct 2>/dev/null; ` +
    "b=$(cut -d' ' -f1 /proc/uptime); echo $a $b";
  const [from = 0, to = 0] = (await bed.sh("web", script)).trim().split(" ").map(Number);
  return Math.max(1000 * (to - from), 1);
}

before(async () => {
  await bed.ok(["volume", "create", "data", "--size", "64M"]);
  const limit = ["--disk-limit", "bw=256K/s,burst=512K,ops=300/s"];
  // Small, because a guest that has a new disk still writes its tables in the background, through the limit.
  const words = ["--memory", "512M", "--cpus", "1", "--disk", "128M", "--volume", "data:/data"];
  await bed.ok(["create", "--name", "web", ...words, ...limit, "debian"]);
});

describe("--disk-limit", { concurrency: false }, () => {
  test("holds from the boot on for the VM's own disks, and not for the image that VMs share", async () => {
    assert.match(await bed.ok(["show", "web"]), /^disk limit +bw=256K\/s,burst=512K,ops=300\/s$/m);
    const all = await throttles("web");
    const rates = all.map(({ bps, bps_max, iops }) => [bps, bps_max, iops]);
    const limited = [256 * 1024, 512 * 1024, 300];
    assert.deepEqual(rates.at(0), [0, undefined, 0], "the base");
    assert.deepEqual(rates.at(1), limited, "the writable disk");
    assert.deepEqual(rates.at(-1), limited, "the volume");
  });

  test("a guest feels it on disk and volume, and no more once it is taken away while the VM runs", async () => {
    const slow = { disk: await writeMs("/root/x"), volume: await writeMs("/data/x") };
    await bed.ok(["set", "web", "--disk-limit", "none"]);
    const fast = { disk: await writeMs("/root/x"), volume: await writeMs("/data/x") };
    for (const which of ["disk", "volume"] as const)
      assert.ok(
        slow[which] > 4 * fast[which],
        `${which}: ${slow[which]} ms with it, ${fast[which]} ms without`,
      );
    assert.ok((await throttles("web")).every(({ bps, iops }) => bps === 0 && iops === 0));
  });

  test("set on a VM that runs is in force at once, and after hearthd came back", async () => {
    await bed.ok(["set", "web", "--disk-limit", "ops=50/s"]);
    assert.equal((await throttles("web")).at(1)?.iops, 50);
    assert.deepEqual((await bed.vm("web")).diskLimit, { opsPerS: 50 });
    await bed.ok(["set", "web", "--disk-limit", "none"]);
  });
});

test("--net-limit is refused before anything is made for a VM without a network", async () => {
  const refused = await bed.hearth(["create", "--name", "other", "--net-limit", "bw=1M/s", "debian"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /error: net-limit: .*limit a network card/);
  assert.equal((await bed.hearth(["set", "web", "--net-limit", "bw=1M/s"])).code, 1);
  assert.deepEqual(
    (await bed.vms()).map(({ name }) => name),
    ["web"],
  );
});

test("memory goes down and up again while the VM runs, and never above what it was started with", async () => {
  const freeKb = async (): Promise<number> =>
    Number(await bed.sh("web", "awk '/^MemFree/ { print $2 }' /proc/meminfo"));
  const guestBytes = async (): Promise<number> =>
    (JSON.parse(await bed.ok(["stats", "--json", "web"])) as { memoryBytes: number }[])[0]?.memoryBytes ?? 0;
  const bootId = await bed.sh("web", "cat /proc/sys/kernel/random/boot_id");
  const free = await freeKb();
  assert.equal(await guestBytes(), 512 * 1024 ** 2);
  const { caveats } = await bed.vm("web");
  if (caveats.some((sentence) => sentence.startsWith("A restored VM cannot give memory back"))) {
    const refused = await bed.hearth(["set", "web", "--memory", "320M"]);
    assert.equal(refused.code, 1);
    assert.match(
      refused.stderr,
      /error: QEMU cannot free memory of this VM while it runs.*\nhint: Stop the VM/,
    );
    assert.equal(await guestBytes(), 512 * 1024 ** 2);
    return;
  }
  await bed.ok(["set", "web", "--memory", "320M"]);
  const less = await freeKb();
  assert.equal(await guestBytes(), 320 * 1024 ** 2);
  assert.ok(free - less > 150 * 1024, `${free} kB were free, then ${less} kB`);
  await bed.ok(["set", "web", "--memory", "512M"]);
  const again = await freeKb();
  assert.ok(again - less > 150 * 1024, `${less} kB were free, then ${again} kB`);
  const above = await bed.hearth(["set", "web", "--memory", "1G"]);
  assert.equal(above.code, 2);
  assert.match(
    above.stderr,
    /error: memory: web is running .* with 512M, .*\nhint: To give it more, stop it first/,
  );
  assert.equal(await bed.sh("web", "cat /proc/sys/kernel/random/boot_id"), bootId);
});

test("a volume cannot be plugged into a VM that runs, and the rest of set still waits for a stop", async () => {
  const refused = await bed.hearth(["volume", "attach", "web", "data:/more"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /error: .*cannot attach a disk to a running VM/);
  assert.match((await bed.hearth(["set", "web", "--cpus", "2"])).stderr, /hint: Stop it first/);
});
