/** Isolation that only a host with cgroup v2 and KVM can show, read back from the kernel: /proc and /sys/fs/cgroup. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { GIB, MIB } from "#base/sizes.ts";
import { Bed } from "../e2e/bed.ts";

const CGROUPS = "/sys/fs/cgroup";
/** The jailer moves itself into this one unless it is told otherwise; any other user of it on the host makes it. */
const FOREIGN = join(CGROUPS, "firecracker");
const bed = new Bed({
  config: '[defaults]\ndriver = "firecracker"\ncpus = 1\nmemory = "256M"\ndisk = "2G"\n',
  warm: false,
});

before(() => mkdirSync(FOREIGN, { recursive: true }));
after(() => rmdirSync(FOREIGN));

test("Firecracker runs in its VM's cgroup although the jailer's own default cgroup is there, without swap or core dumps", async () => {
  assert.ok(existsSync(join(FOREIGN, "cgroup.procs")), "the cgroup that it could go to is there");
  await bed.ok(["create", "--name", "web", "debian"]);
  const { id, pid, isolationInForce } = await bed.vm("web");
  assert.equal(isolationInForce?.cgroup, join(CGROUPS, "hearth", id));
  assert.equal(readFileSync(`/proc/${pid}/cgroup`, "utf8"), `0::/hearth/${id}\n`);
  const limit = (name: string): string => readFileSync(join(CGROUPS, "hearth", id, name), "utf8").trim();
  assert.equal(limit("memory.max"), String((256 + 64) * MIB));
  assert.equal(limit("memory.swap.max"), "0");
  const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
  assert.match(limits, /^Max core file size +0 +0 /m);
  assert.match(readFileSync(`/proc/${pid}/coredump_filter`, "utf8"), /^0+\n$/);
  const fileMaxBytes = Number(/^Max file size +(\d+) /m.exec(limits)?.[1]);
  assert.ok(fileMaxBytes >= 2 * GIB && fileMaxBytes < 4 * GIB, String(fileMaxBytes));
  await bed.ok(["rm", "-f", "web"]);
  assert.deepEqual([...bed.leftovers(), ...bed.cgroups()], []);
});
