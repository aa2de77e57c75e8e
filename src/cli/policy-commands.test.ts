import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { runCli } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

const OFFICE = [
  'default = "deny"',
  "rules = [",
  '  { allow = "domain:*.debian.org", ports = [80, 443] },',
  '  { deny  = "0.0.0.0/0", protocol = "icmp", comment = "no ping" } ]',
].join("\n");
const SHOWN = [
  "allow domain:*.debian.org:80/tcp",
  "allow domain:*.debian.org:443/tcp",
  "deny 0.0.0.0/0/icmp # no ping",
  "deny other public addresses",
];
const CONFIG = `warm.enabled = false\n[network.policies.office]\n${OFFICE}\n`;

async function serve(t: TestContext) {
  const served = await serveDaemon(t, { config: CONFIG });
  const cwd = mkdtempSync(join(tmpdir(), "hearth-policy-"));
  t.after(() => rmSync(cwd, { recursive: true }));
  const cli = (...argv: string[]) => runCli(served, argv, { cwd });
  const policyOf = async (name: string): Promise<string[]> =>
    [...(await cli("show", name)).stdout.matchAll(/^policy +(.*)$/gm)].map(([, line = ""]) => line);
  return {
    served,
    cli,
    policyOf,
    write: (name: string, text: string) => writeFileSync(join(cwd, name), text),
  };
}

test("a VM has the policy of a file or of a name, with comments that are not in force", async (t) => {
  const { served, cli, policyOf, write } = await serve(t);
  write("office.toml", OFFICE);
  assert.equal(
    (await cli("create", "--name", "web", "--policy", "office.toml", "debian")).stderr,
    "Next: hearth shell web\n",
  );
  assert.equal((await cli("run", "-d", "--name", "named", "--policy", "office", "debian")).code, 0);
  for (const name of ["web", "named"]) {
    assert.deepEqual(await policyOf(name), SHOWN);
    const { id } = served.host.store.getVm(name);
    const inForce = served.host.machine.isolation.networks.get(id);
    assert.deepEqual(inForce?.rules.at(-1), { action: "deny", to: "0.0.0.0/0", protocol: "icmp" });
  }
  assert.match((await cli("network", "policy", "web")).stdout, /^3 +deny 0\.0\.0\.0\/0\/icmp # no ping +\d/m);
  assert.match((await cli("show", "web")).stdout, /^network +nat$/m);
});

test("the policy of a running VM is replaced by a name or a file, and stays in force when only comments change", async (t) => {
  const { served, cli, policyOf, write } = await serve(t);
  await cli("create", "--name", "web", "--policy", "open", "debian");
  assert.deepEqual(await policyOf("web"), ["allow 0.0.0.0/0", "allow ::/0", "allow other public addresses"]);
  const set = await cli("network", "set", "web", "--policy", "office");
  assert.deepEqual(set.stdout.trimEnd().split("\n"), SHOWN);
  write("office.toml", OFFICE.replace("no ping", "neither ping"));
  const { setNetworkPolicy } = served.host.helper;
  served.host.helper.setNetworkPolicy = () => Promise.reject(new Error("It is loaded again."));
  assert.equal((await cli("network", "set", "web", "--policy", "./office.toml")).code, 0);
  assert.equal((await policyOf("web"))[2], "deny 0.0.0.0/0/icmp # neither ping");
  served.host.helper.setNetworkPolicy = setNetworkPolicy;
  await cli("network", "set", "web", "--policy", "internet");
  assert.deepEqual(await policyOf("web"), ["allow other public addresses"]);
});

test("a VM from a snapshot has the snapshot's policy, or the one that is given", async (t) => {
  const { cli, policyOf } = await serve(t);
  await cli("create", "--name", "web", "--policy", "office", "debian");
  assert.equal((await cli("snapshot", "create", "web", "saved")).code, 0);
  for (const [name, flags, policy] of [
    ["same", [], SHOWN],
    ["other", ["--policy", "none"], ["deny other public addresses"]],
  ] as const) {
    assert.equal(
      (await cli("create", "--no-start", "--snapshot", "saved", "--name", name, ...flags)).code,
      0,
    );
    assert.deepEqual(await policyOf(name), policy);
  }
});

test("a VM keeps the policy that it was created with when config.toml has another one", async (t) => {
  const { served, cli, policyOf } = await serve(t);
  await cli("create", "--no-start", "--name", "web", "--policy", "office", "debian");
  Object.assign(served.host.config.network.policies, { office: { default: "allow", rules: [] } });
  assert.equal((await cli("start", "web")).code, 0);
  assert.deepEqual(await policyOf("web"), SHOWN);
});

test("a policy that is unknown, no policy, or given in part besides is refused, and no VM is made", async (t) => {
  const { served, cli, write } = await serve(t);
  write("wrong.toml", 'default = "deny"\nrules = [ { allow = "10.0.0.0/8", ports = ["x"] } ]');
  write("broken.toml", "default =");
  const refused: readonly (readonly [flags: string[], error: RegExp])[] = [
    [["--policy", "ofice"], /there is no policy "ofice"[^]*hint: Did you mean office\?/],
    [["--policy", "Office"], /"Office" is not the name of a policy/],
    [["--policy", "./missing"], /policy: cannot read \S+missing \(ENOENT\)/],
    [["--policy", "wrong.toml"], /wrong\.toml: rule 1: ports: "x" is not a port/],
    [["--policy", "broken.toml"], /broken\.toml: Invalid TOML/],
    [["--policy", "open", "--network", "deny-all"], /--network deny-all cannot be given with --policy/],
    [["--policy", "open", "--network", "none"], /--network none cannot be given with --policy/],
    [["--policy", "open", "--allow-cidr", "10.0.0.0/8"], /--allow-cidr cannot be given with --policy/],
    [["--policy", "none", "--allow-domain", "pypi.org"], /--allow-domain cannot be given with --policy/],
  ];
  for (const [flags, error] of refused) {
    const { code, stderr } = await cli("create", "--name", "web", ...flags, "debian");
    assert.equal(code, 2, stderr);
    assert.match(stderr, error);
  }
  assert.equal(served.vm("web"), undefined);
  await cli("create", "--name", "web", "--network", "nat", "debian");
  const both = await cli("network", "set", "web", "--policy", "open", "--deny-cidr", "10.0.0.0/8");
  assert.match(both.stderr, /--deny-cidr cannot be given with --policy/);
  const client = await served.client();
  const policy = { default: "deny", rules: [] } as const;
  await assert.rejects(client.vm("web").set({ policyName: "open", policy: { ...policy, rules: [] } }), {
    code: "input.invalid",
    message: /policyName: cannot be given with a policy/,
  });
  const rules = [{ action: "allow" as const, to: "10.0.0.0/8", comment: "a\x1b[2J" }];
  await assert.rejects(client.vm("web").set({ policy: { ...policy, rules } }), {
    code: "input.invalid",
    message: /comment: .* is not a comment/,
  });
});

test("the policy that docs/network.md shows is the file of its commands, and is one", async (t) => {
  const root = join(import.meta.dirname, "../..");
  const file = readFileSync(join(root, "examples/office.toml"), "utf8");
  const page = readFileSync(join(root, "docs/network.md"), "utf8");
  assert.equal(/```toml\n(.*?)```/s.exec(page)?.[1], file);
  const { cli, policyOf } = await serve(t);
  await cli(
    "create",
    "--no-start",
    "--name",
    "web",
    "--policy",
    join(root, "examples/office.toml"),
    "debian",
  );
  assert.deepEqual((await policyOf("web")).slice(-2), [
    "deny 0.0.0.0/0/icmp # no ping",
    "deny other public addresses",
  ]);
});

test("the names of policies are completed, and files", async (t) => {
  const { cli } = await serve(t);
  const { stdout } = await cli("__complete", "--", "run", "--policy", "");
  assert.deepEqual(stdout.trimEnd().split("\n"), ["internet", "open", "none", ":path"]);
});
