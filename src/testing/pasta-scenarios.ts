/**
 * Runs what happens to the networks of VMs without root. Started by `helper/pasta-networks.test.ts` as root, in a network
 * namespace that becomes the host, and continues there as a user without rights.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { GuestNetwork } from "#helper/nft-program.ts";
import { PastaNetworks } from "#helper/pasta-networks.ts";
import { listCommands } from "#host/procfs.ts";
import { runOrThrow } from "#host/run.ts";
import { parseVmId } from "#model/ids.ts";
import type { VmId } from "#model/ids.ts";
import { INTERNET } from "#model/network-policy.ts";
import { APART, becomeUser } from "#testing/apart-hearthd.ts";

const [, , scenario = "", dir = "", killAfterMs] = process.argv;
const SELF = fileURLToPath(import.meta.url);
const ID = parseVmId("vm-aaaaaaaaaaaa");
const NETWORK: GuestNetwork = { mac: "02:00:00:00:00:0a", policy: INTERNET, resolver: "192.0.2.53" };
const UPLINK = join(
  import.meta.dirname,
  `../../build/agent/hearth-uplink-${process.arch === "arm64" ? "aarch64" : "x86_64"}`,
);
const never = new AbortController().signal;
const networks = new PastaNetworks(UPLINK, dir, APART);

const make = (id: VmId = ID): Promise<void> => networks.make(id, NETWORK, never);
const remove = (id: VmId = ID): Promise<void> => networks.remove(id, never);

/** Lists the processes of this user that hold and connect networks. */
function left(): string[] {
  return listCommands().flatMap(({ argv }) =>
    argv[0] === "pasta" || argv.includes("hold") ? [argv.join(" ")] : [],
  );
}

const SCENARIOS: Readonly<Record<string, () => Promise<void>>> = {
  async twice() {
    await make();
    await make();
    assert.deepEqual(networks.list(), [ID]);
    assert.equal(left().filter((one) => one.includes(dir)).length, 1);
    const rules = await networks.listRules(ID, "rules", never);
    for (const table of ["inet hearth", "inet hearth_host", "netdev hearth", "inet hearth_nat"])
      assert.ok(rules.includes(`table ${table} {`), table);
    assert.match(rules, /02:00:00:00:00:0a/);
    const network = networks.join(ID);
    assert.ok(network.kind === "join" && network.owner?.user.uid === APART.uid);
    await remove();
    await remove();
    assert.deepEqual(networks.list(), []);
    assert.throws(() => networks.join(ID), { code: "input.invalid" });
  },

  async changed() {
    await make();
    const before = await networks.listRules(ID, "counters", never);
    await networks.setPolicy(ID, { policy: { default: "deny", rules: [] } }, never);
    assert.notEqual(await networks.listRules(ID, "counters", never), before);
    await networks.setLimit(ID, { bandwidthBytesPerS: 100_000, opsPerS: 100 }, never);
    assert.match(await networks.listRules(ID, "rules", never), /table inet hearth_limit/);
    await networks.setLimit(ID, {}, never);
    assert.doesNotMatch(await networks.listRules(ID, "rules", never), /table inet hearth_limit/);
    const named = { default: "deny", rules: [{ action: "allow", to: "domain:*.example" }] } as const;
    const enforced = { policy: named, resolver: "192.0.2.53" };
    await assert.rejects(networks.setPolicy(ID, enforced, never), { code: "feature.missing" });
    await remove();
    await assert.rejects(networks.make(ID, { ...NETWORK, ...enforced }, never), { code: "feature.missing" });
    assert.deepEqual(networks.list(), []);
  },

  async fail() {
    const server = createServer().listen(18_080, "127.0.0.1");
    await once(server, "listening");
    const publish = [{ address: "127.0.0.1", hostPort: 18_080, guestPort: 80, protocol: "tcp" }] as const;
    await assert.rejects(networks.make(ID, { ...NETWORK, publish: [...publish] }, never), {
      code: "host.tool_failed",
    });
    server.close();
    assert.deepEqual(networks.list(), []);
    for (const afterMs of [1, 5, 10, 20, 40]) {
      const cancelled = networks.make(ID, NETWORK, AbortSignal.timeout(afterMs));
      await cancelled.then(
        () => remove(),
        () => {},
      );
      assert.deepEqual(networks.list(), [], `cancelled after ${afterMs} ms`);
    }
  },

  async contend() {
    const ids = ["a", "b", "c", "d"].map((letter) => parseVmId(`vm-${letter.repeat(12)}`));
    await Promise.all(ids.map((id) => make(id)));
    assert.deepEqual(networks.list().toSorted(), ids);
    await Promise.all(ids.map((id) => remove(id)));
    assert.deepEqual(networks.list(), []);
  },

  async killed() {
    for (const afterMs of [0, 4, 8, 12, 16, 24, 32, 48, 64, 96]) {
      const child = spawn(process.execPath, [SELF, "victim", dir, String(afterMs)], { stdio: "inherit" });
      await once(child, "exit");
      await remove();
      assert.deepEqual(networks.list(), [], `killed after ${afterMs} ms`);
    }
  },

  /** Kills itself while it makes a network. */
  async victim() {
    void make();
    await delay(Number(killAfterMs));
    process.kill(process.pid, "SIGKILL");
  },

  async false() {
    writeFileSync(join(dir, "hold"), "process.stdin.resume(); console.log('runs');");
    await using _bare = await pretend([]);
    assert.deepEqual(networks.list(), [ID], "the name and the arguments are right");
    await remove();
    const roots = readdirSync("/").filter((name) => statSync(`/${name}`).isDirectory() && name !== "proc");
    const binds = roots.flatMap((name) => ["--dev-bind", `/${name}`, `/${name}`]);
    await using jailed = await pretend(["bwrap", ...binds, "--proc", "/proc", "--"]);
    assert.deepEqual(networks.list(), [], "it has another root directory");
    await remove();
    assert.equal(jailed.exitCode, null, "it is not ended");
  },
};

/** Starts a program with the name and the arguments of a holder. */
async function pretend(launcher: readonly string[]): Promise<ChildProcess & AsyncDisposable> {
  const argv = ["hold", "--owner", join(dir, ID)];
  const options = JSON.stringify({ argv0: UPLINK, cwd: dir, stdio: "inherit" });
  const script = `child_process.spawn(process.execPath, ${JSON.stringify(argv)}, ${options})`;
  const [file = "", ...args] = [...launcher, process.execPath, "--eval", script];
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
  const closed = once(child, "close");
  await once(child.stdout, "data");
  const dispose = async (): Promise<void> => {
    child.stdin.end(); // Both end with their stdin.
    await closed;
  };
  return Object.assign(child, { [Symbol.asyncDispose]: dispose });
}

/** Makes this namespace a host with a way out, as pasta needs it. */
async function beHost(): Promise<void> {
  const input = `link set lo up
    link add out type veth peer name far
    addr add 203.0.113.2/24 dev out
    link set out up
    link set far up
    route add default via 203.0.113.1\n`;
  await runOrThrow("ip", ["-batch", "-"], { input, timeoutMs: 10_000, signal: never });
  const [file = "", ...args] = [...becomeUser(APART), process.execPath, SELF, ...process.argv.slice(2)];
  process.stdout.write(await runOrThrow(file, args, { timeoutMs: 55_000, signal: never }));
}

if (process.geteuid?.() === 0) {
  await beHost();
} else {
  await SCENARIOS[scenario]?.();
  process.stdout.write("done\n");
}
