/**
 * A database of Debian's in a guest with systemd, on a volume, under a hearthd that comes late: the volume is there
 * before the database starts, and the database never writes to what lies below the volume's mount point.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { runOrThrow } from "#host/run.ts";
import { Bed } from "./bed.ts";
import { endDaemon } from "./crash-flow.ts";

// With a volume it boots whatever is asked for.
const bed = new Bed({ warm: false });
const RESTARTS = process.env["HEARTH_E2E"] === "all" ? 10 : 2;
/**
 * So long after the agent's first answer, systemd has started the database of a guest that does not wait for hearthd.
 */
const LATE_MS = Number(process.env["HEARTH_E2E_LATE_MS"] ?? 20_000);
const STOP = ["stop", "--time", "60s", "box"];
/** redis-server, and what it needs that the image may lack. */
const PACKAGES = "redis-server redis-tools lsb-base adduser libatomic1 libjemalloc2 liblzf1 libssl3".split(
  " ",
);
const UNTIL_REDIS_ANSWERS = "until redis-cli ping 2>/dev/null | grep -q PONG; do sleep 0.2; done";

/** The packages of the host's own suite, downloaded once and never installed on the host. */
async function redisPackages(signal: AbortSignal): Promise<string> {
  const dir = join(import.meta.dirname, "../build/e2e/redis");
  if (existsSync(dir)) return dir;
  mkdirSync(join(dir, ".."), { recursive: true });
  const work = mkdtempSync(`${dir}-`);
  try {
    const options = { cwd: work, timeoutMs: 300_000, signal };
    const words = ["download", "-q", "-o", "APT::Sandbox::User=root", ...PACKAGES];
    await runOrThrow("apt-get", words, options);
    assert.equal(globSync("*.deb", { cwd: work }).length, PACKAGES.length);
    renameSync(work, dir);
    return dir;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function becomeSlow(): Promise<void> {
  await endDaemon(bed);
  const daemon = spawn(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", join(import.meta.dirname, "slow-hearthd.ts")],
    {
      env: { ...bed.env, HEARTH_LATE_MS: String(LATE_MS) },
      stdio: ["ignore", "pipe", "inherit"],
      detached: true,
    },
  );
  assert.deepEqual(await once(createInterface(daemon.stdout), "line"), ["ready"]);
}

/** Lists the directory of the guest's own disk on which the volume is mounted. */
function belowTheVolume(): Promise<string> {
  return bed.sh(
    "box",
    "mkdir -p /mnt/own && mount --bind / /mnt/own && ls -A /mnt/own/var/lib/redis; umount /mnt/own",
  );
}

before(async () => {
  const packages = await redisPackages(AbortSignal.timeout(300_000));
  await bed.ok(["image", "build", "debian-systemd"], { timeoutMs: 600_000 });
  await bed.ok(["volume", "create", "data", "--size", "64M"]);
  const size = ["--init", "systemd", "--memory", "512M"];
  await bed.ok(["create", "--name", "box", ...size, "--volume", "data:/var/lib/redis", "debian-systemd"]);
  await bed.ok(["cp", `${packages}/.`, "box:/root/debs"]);
  await bed.sh("box", "DEBIAN_FRONTEND=noninteractive dpkg -i /root/debs/*.deb >/dev/null 2>&1");
  assert.equal(await bed.sh("box", "systemctl is-enabled redis-server 2>/dev/null"), "enabled\n");
  await bed.sh("box", `${UNTIL_REDIS_ANSWERS}; redis-cli set round 0; redis-cli config get dir`);
  // A file that is made below the volume can be seen.
  await bed.sh("box", "mount --bind / /mnt && touch /mnt/var/lib/redis/probe && umount /mnt");
  assert.equal(await belowTheVolume(), "probe\n");
  await bed.sh("box", "mount --bind / /mnt && rm /mnt/var/lib/redis/probe && umount /mnt");
  await bed.ok(STOP);
  await becomeSlow();
});

after(() => endDaemon(bed));

for (let round = 1; round <= RESTARTS; round += 1) {
  test(`restart ${round} of ${RESTARTS}: the database has what it had, on the volume and nowhere else`, async () => {
    if (round > 1) await bed.ok(STOP);
    await bed.ok(["start", "box"]);
    assert.equal(await belowTheVolume(), "");
    const found = await bed.sh("box", `${UNTIL_REDIS_ANSWERS}; redis-cli --raw get round`);
    assert.equal(found, `${round - 1}\n`);
    await bed.sh("box", `redis-cli set round ${round}`);
  });
}

test("name and machine id were there before the first service started, and nothing failed", async () => {
  assert.equal(await bed.sh("box", "systemctl is-system-running --wait"), "running\n");
  const id = await bed.sh("box", "cat /etc/machine-id");
  assert.equal(
    await bed.sh("box", "ls /run/log/journal /var/log/journal 2>/dev/null | grep -xE '[0-9a-f]{32}'"),
    id,
  );
  const names = await bed.sh(
    "box",
    'journalctl -b -o json --no-pager | grep -o \'"_HOSTNAME":"[^"]*"\' | sort -u',
  );
  assert.equal(names, '"_HOSTNAME":"box"\n');
});
