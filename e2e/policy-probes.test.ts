/** The table of probes over network policies holds on every path by which a VM comes to run: docs/network-probes.md. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Doctor } from "#api/wire.ts";
import { signalProcess } from "#host/procfs.ts";
import { Bed } from "./bed.ts";
import { PrivateInternet } from "./private-internet.ts";
import { PUBLISHED_PORT, SECOND_HOST_ADDRESS } from "./probes/addresses.ts";
import { ACCEPT_ALL, FIREWALLS } from "./probes/firewalls.ts";
import { POLICIES } from "./probes/probe.ts";
import type { PolicyName } from "./probes/probe.ts";
import { recordProbes } from "./probes/probe-record.ts";
import { runProbes } from "./probes/probe-run.ts";
import { buildProber, GUEST_PROBER, serveOn } from "./probes/prober.ts";
import { ENDPOINTS } from "./probes/rules-and-names.ts";
import type { PathName } from "./probes/table.ts";

const isRoot = process.geteuid?.() === 0;
const skip = isRoot ? false : "VMs of a hearthd that is not root have no network of their own";
const SMALL = ["--memory", "256M"];
const STAYS = ["debian", "--", "sleep", "100000"];

describe("the policy of a VM is in force", { skip }, () => {
  const internet = new PrivateInternet();
  const bed = new Bed({ warm: true, apart: false });
  const dir = mkdtempSync(join(tmpdir(), "hearth-probes-"));
  let prober = "";
  let servers: Disposable | undefined;

  before(async () => {
    await new Bed({ apart: false }).ok(["image", "build", "debian"]);
    prober = await buildProber(dir);
    await internet.start();
    // Every address is there.
    await internet.outside(["ip", "route", "add", "local", "default", "dev", "lo"]);
    servers = await serveOn(internet, prober, ENDPOINTS);
    await internet.onHost(["ip", "addr", "add", `${SECOND_HOST_ADDRESS}/32`, "dev", "lo"]);
    // A host tells of denied packets once a second, and this one is asked often.
    await internet.onHost(["tee", "/proc/sys/net/ipv4/icmp_ratelimit"], { stdin: "0\n" });
    await internet.startDaemon(bed);
    const published = ["-p", `0.0.0.0:${PUBLISHED_PORT}:80`];
    await bed.ok([
      "run",
      "-d",
      "--name",
      "other",
      "--cold",
      ...SMALL,
      "--network",
      "nat",
      ...published,
      ...STAYS,
    ]);
  });
  after(async () => {
    // With their networks, and the resolvers in them.
    const names = (await bed.vms()).map(({ name }) => name);
    if (names.length > 0) await bed.ok(["rm", "-f", ...names]);
    await bed.hearth(["daemon", "stop"]);
    servers?.[Symbol.dispose]();
    internet[Symbol.dispose]();
    rmSync(dir, { recursive: true });
  });

  /** Tests all probes on a VM whose policy is `first`. */
  const assertProbes = async (path: PathName, vm: string, first: PolicyName): Promise<void> => {
    await bed.ok(["cp", prober, `${vm}:${GUEST_PROBER}`]);
    const faults = await runProbes(vm, first, { bed, internet, prober, other: "other" });
    recordProbes(path, faults);
    assert.deepEqual([...faults.values()].flat(), []);
  };
  const set = async (vm: string, policy: PolicyName): Promise<void> =>
    void (await (await bed.connect()).vm(vm).set({ policy: POLICIES[policy].policy }));
  const assertRestored = async (vm: string): Promise<void> =>
    assert.ok((await bed.vm(vm)).restoredFrom, "it was restored");

  test("after a boot, after each change of a running VM, and beside another VM", async () => {
    await bed.ok(["run", "-d", "--name", "web", "--cold", ...SMALL, "--network", "nat", ...STAYS]);
    await assertProbes("a boot", "web", "internet");
    await set("web", "rules");
    await assertProbes("a change of the policy", "web", "rules");
  });

  test("after a start from a template", async () => {
    await bed.ok(["template", "build", ...SMALL, "--network", "nat", "debian"]);
    await bed.ok(["run", "-d", "--name", "warm", ...SMALL, "--network", "deny-all", ...STAYS]);
    await assertRestored("warm");
    await assertProbes("a start from a template", "warm", "closed");
    await bed.ok(["rm", "-f", "warm"]);
  });

  test("after a fork, and a restore from a snapshot", async () => {
    await set("web", "names");
    await bed.ok(["fork", "web"]);
    await assertProbes("a fork", "web-1", "names");
    await set("web-1", "open");
    await bed.ok(["snapshot", "create", "web-1", "saved"]);
    await bed.ok(["rm", "-f", "web-1"]);
    await bed.ok(["create", "--name", "again", "--snapshot", "saved"]);
    await assertRestored("again");
    await assertProbes("a restore from a snapshot", "again", "open");
    await bed.ok(["rm", "-f", "again"]);
  });

  test("after a suspend and a resume, and a stop and a start", async () => {
    // Last of all, the guest asked for names.
    await set("web", "names");
    await bed.ok(["suspend", "web"]);
    await bed.ok(["resume", "web"]);
    await assertProbes("a suspend and a resume", "web", "names");
    await bed.ok(["stop", "web"]);
    await bed.ok(["start", "web"]);
    await assertProbes("a stop and a start", "web", "names");
  });

  test("after a kill of hearthd, and in a VM of a pool", async () => {
    const daemon = bed.daemon();
    assert.ok(daemon);
    await set("web", "open");
    signalProcess(daemon, "SIGKILL");
    await bed.until(() => bed.daemon() === undefined);
    bed.configure('[pool.small]\nimage = "debian"\nnetwork = "nat"\nmemory = "256M"\n', true);
    await internet.startDaemon(bed);
    await assertProbes("a kill of hearthd", "web", "open");

    const pooled = (): number => {
      const shown = new Set(all.map(({ pid }) => pid));
      return bed.vmms().find(({ pid }) => !shown.has(pid))?.pid ?? 0;
    };
    const all = await bed.vms();
    await bed.until(() => bed.log().includes('"from":"running","to":"paused"'));
    const waiting = pooled();
    await bed.ok(["run", "-d", "--name", "pooled", ...SMALL, "--network", "deny-all", ...STAYS]);
    assert.equal((await bed.vm("pooled")).pid, waiting, "it was there before");
    await assertProbes("a pool", "pooled", "closed");
    await bed.ok(["rm", "-f", "pooled"]);
  });

  const loaded = async (program: string): Promise<AsyncDisposable> => {
    await internet.onHost(["nft", "-f", "-"], { stdin: program });
    const tables = [...program.matchAll(/^table (\w+ \w+)/gm)].map(([, table]) => `delete table ${table}\n`);
    return {
      [Symbol.asyncDispose]: async () =>
        void (await internet.onHost(["nft", "-f", "-"], { stdin: tables.join("") })),
    };
  };

  /** Returns what doctor says about the firewall of the host. */
  const firewall = async (): Promise<string> => {
    const { stdout } = await bed.hearth(["doctor", "--json"]);
    const { checks } = JSON.parse(stdout) as Doctor;
    const { verdict, found } =
      checks.find(({ name }) => name === "firewall") ?? assert.fail("it was checked");
    return `${verdict} ${found}`;
  };

  test("beside the rules of other firewalls, and after a flush", async () => {
    await set("web", "internet");
    {
      await using _accepts = await loaded(ACCEPT_ALL);
      await assertProbes("a firewall that accepts all", "web", "internet");
    }
    await assertProbes("a flush of other tables", "web", "internet");
    for (const { path, program, allow } of FIREWALLS) {
      await using _rules = await loaded(program);
      const tested = await bed.hearth(["network", "test", "web", "198.51.100.7:80"]);
      assert.equal(tested.code, 1, "it drops what VMs send");
      assert.match(await firewall(), /^warn chain FORWARD of table ip filter drops what VMs send/);
      await internet.onHost(["nft", "-f", "-"], { stdin: allow });
      await assertProbes(path, "web", "internet");
    }
    await internet.onHost(["nft", "flush", "ruleset"]);
    await bed.ok(["run", "-d", "--name", "next", ...SMALL, "--network", "nat", ...STAYS]);
    await assertProbes("a flush of all tables and the start of a VM", "next", "internet");
  });
});
