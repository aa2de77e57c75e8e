import assert from "node:assert/strict";
import { test } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

test("ports are listed with their programs, and with what leads to them", async (t) => {
  const served = await serveDaemon(t);
  const publish = [{ address: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" }] as const;
  await served.run("web", { image: "debian", network: "nat", publish: [...publish] });
  served.host.guestFaults.ports = [
    { protocol: "tcp", address: "0.0.0.0", port: 80, pid: 20, program: "nginx", user: "www-data" },
    { protocol: "udp", address: "127.0.0.53", port: 53 },
    { protocol: "tcp", address: "127.0.0.1", port: 5432, pid: 30, program: "a\x1b[2J", user: "postgres" },
  ];
  const { code, stdout, stderr } = await runCli(served, ["ports", "web"]);
  assert.deepEqual(stdout.split("\n"), [
    "PORT  PROTOCOL  ADDRESS     PROGRAM   PID  REACHABLE",
    "80    tcp       0.0.0.0     nginx     20   127.0.0.1:8080",
    "53    udp       127.0.0.53  -         -    -",
    "5432  tcp       127.0.0.1   a\\x1b[2J  30   port-forward",
    "",
  ]);
  assert.match(stderr, /^web has more ports/);
  assert.equal(code, 0);
  const json = await runCli(served, ["ports", "web", "--json"]);
  const { ports, truncated } = JSON.parse(json.stdout) as { ports: object[]; truncated: boolean };
  assert.deepEqual(ports[0], {
    protocol: "tcp",
    address: "0.0.0.0",
    port: 80,
    pid: 20,
    program: "nginx",
    user: "www-data",
    published: [{ address: "127.0.0.1", hostPort: 8080 }],
    forward: true,
  });
  assert.equal(truncated, true);
});

test("a VM in which nothing listens says so, and a suspended one is resumed first", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  assert.equal((await runCli(served, ["suspend", "web"])).code, 0);
  assert.equal(served.vm("web")?.state.phase, "suspended");
  assert.match((await runCli(served, ["ports", "web"])).stdout, /port-forward/);
  assert.equal(served.vm("web")?.state.phase, "running");
  served.host.guestFaults.ports = [];
  assert.match((await runCli(served, ["ports", "web"])).stderr, /^No program listens in web\./);
});

test("a VM that is stopped, and one that does not exist, have no ports to list", async (t) => {
  const served = await serveDaemon(t);
  await served.runAndStop("off");
  const { code, stdout, stderr } = await runCli(served, ["ports", "off"]);
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(stderr, /off.*stopped/);
  assert.match((await runCli(served, ["ports", "gone"])).stderr, /There is no VM "gone"/);
});
