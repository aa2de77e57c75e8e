import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "smol-toml";
import { configKeys, parseConfig } from "#daemon/config.ts";

test("an empty config gives 2 CPUs, 2 GiB, a disk of exactly 8 GiB and no network", () => {
  assert.deepEqual(parseConfig("config.toml", "").defaults, {
    cpus: 2,
    memoryBytes: 2147483648,
    diskBytes: 8589934592,
    network: "none",
  });
});

test("a config changes what it names and nothing else", () => {
  const config = parseConfig("config.toml", '[defaults]\nmemory = "512M"\n[health]\nkill_after = "30s"\n');
  assert.equal(config.defaults.memoryBytes, 536870912);
  assert.equal(config.defaults.cpus, 2);
  assert.equal(config.health.killAfterMs, 30_000);
});

test("Firecracker's programs and a mirror on this machine are taken as they are", () => {
  const toml =
    '[firecracker]\nprogram = "/opt/fc/firecracker"\nseccomp_filter = "/etc/fc.bpf"\nrelease_url = "http://127.0.0.1:8000/releases"';
  assert.deepEqual(parseConfig("config.toml", toml).firecracker, {
    program: "/opt/fc/firecracker",
    seccompFilter: "/etc/fc.bpf",
    releaseUrl: "http://127.0.0.1:8000/releases",
  });
});

test("QEMU's program is a name or an absolute path, and hearthd's own choice when it is left out", () => {
  const program = (toml: string) => parseConfig("config.toml", toml).drivers.qemu.program;
  assert.equal(program(""), undefined);
  for (const given of ["qemu-system-x86_64", "qemu-kvm", "/opt/qemu/bin/qemu-system-x86_64"])
    assert.equal(program(`[drivers.qemu]\nprogram = ${JSON.stringify(given)}`), given);
});

for (const [title, toml, problem, hint] of [
  ["an unknown table", "[default]\ncpus = 1", /unknown key default/, /Did you mean defaults/],
  ["an unknown key", "[defaults]\nmemroy = '1G'", /unknown key defaults.memroy/, /defaults.memory/],
  [
    "a key that objects inherit",
    "[defaults]\nconstructor = 1",
    /unknown key defaults.constructor/,
    /^Keys are/,
  ],
  ["a number without a unit", '[defaults]\nmemory = "512"', /defaults.memory: "512" has no unit/, /512M/],
  ["a number for a size", "[defaults]\nmemory = 512", /must be text/, /memory = "…"/],
  ["too many CPUs", "[defaults]\ncpus = 33", /whole number from 1 to 32/, /^$/],
  ["an unknown network", '[defaults]\nnetwork = "bridge"', /one of none, nat\./, /^$/],
  [
    "a relative QEMU",
    '[drivers.qemu]\nprogram = "bin/qemu-kvm"',
    /name on PATH, or an absolute/,
    /program = /,
  ],
  ["another program for QEMU", '[drivers.qemu]\nprogram = "/bin/sh"', /begins with qemu-/, /program = /],
  [
    "a driver that there is not",
    '[defaults]\ndriver = "qmeu"',
    /defaults.driver: "qmeu" must be one of qemu/,
    /^$/,
  ],
  [
    "uids of people",
    "[isolation]\nuid_first = 1000",
    /uid_first: 1000 must be a whole number from 65536/,
    /^$/,
  ],
  [
    "an image that is none",
    '[pool.dev]\nimage = "De bian"',
    /pool.dev.image: "De bian" is not an image/,
    /debian/,
  ],
  ["pools that are no tables", "[pool]\ndev = 3", /pool.dev must be a table/, /\[pool.dev\]/],
  ["an array for a table", "defaults = []", /defaults must be a table/, /\[defaults\]/],
  ["a pool without keys", "[pool.dev]", /pool.dev.image is missing/, /image = "debian"/],
  [
    "a VMM that is killed at its first slow answer",
    '[health]\ninterval = "5s"\nkill_after = "100ms"',
    /kill_after must be longer than health.interval, 5000 ms/,
    /kill_after = "2m"/,
  ],
  [
    "uids beyond all that there are",
    "[isolation]\nuid_first = 2_147_352_000",
    /exceed the uid 2147352575/,
    /uid_count = 576/,
  ],
  ["an unknown driver", '[drivers.qmeu]\nprogram = "qemu-kvm"', /unknown key drivers.qmeu/, /drivers.qemu/],
  [
    "an unknown key of a driver",
    "[drivers.qemu]\nprogam = 'qemu-kvm'",
    /unknown key drivers.qemu.progam/,
    /program/,
  ],
  ["a driver that is no table", 'drivers = "qemu"', /drivers must be a table/, /\[drivers\]/],
  ["a relative program", '[firecracker]\nprogram = "firecracker"', /must be an absolute path/, /^$/],
  [
    "a mirror without TLS",
    '[firecracker]\nrelease_url = "http://example.org"',
    /https:\/\//,
    /only for this machine/,
  ],
  ["a mirror that is a path", '[firecracker]\nrelease_url = "/srv/mirror"', /https:\/\//, /127\.0\.0\.1/],
  [
    "a policy without a default",
    "[network.policies.office]",
    /network.policies.office: default: it is missing/,
    /default = "deny"/,
  ],
  [
    "a rule that has what no rule has",
    '[network.policies.office]\ndefault = "deny"\nrules = [ { alow = "10.0.0.0/8" } ]',
    /network.policies.office: rule 1: unknown key alow/,
    /Did you mean allow/,
  ],
  [
    "an unknown key of a policy",
    '[network.policies.office]\ndefault = "deny"\nrule = []',
    /unknown key network.policies.office.rule;?/,
    /Did you mean network.policies.office.rules/,
  ],
  [
    "a policy of Hearth's own",
    '[network.policies.open]\ndefault = "deny"',
    /network.policies.open: open is a policy of Hearth itself/,
    /another name/,
  ],
  [
    "a policy whose name is none",
    '[network.policies.Office]\ndefault = "deny"',
    /network.policies.Office: "Office" is not the name of a policy/,
    /1 to 63/,
  ],
  [
    "a policy that is no table",
    "[network.policies]\noffice = 3",
    /office must be a table/,
    /\[network.policies.office\]/,
  ],
  ["broken TOML", "[defaults", /config.toml: Invalid TOML/, /Correct the TOML/],
] as const) {
  test(`a config with ${title} is refused with the file, the key and the rule`, () => {
    assert.throws(() => parseConfig("config.toml", toml), { code: "config.invalid", message: problem, hint });
  });
}

test("a config with several faults is refused with all of them at once", () => {
  const toml = '[defaults]\ncpus = 33\nmemroy = "1G"\n[health]\ninterval = "5"\n[pool.dev]\ncount = 101';
  assert.throws(
    () => parseConfig("config.toml", toml),
    (error: Error) => {
      for (const problem of [
        "defaults.cpus: 33",
        "unknown key defaults.memroy",
        'health.interval: "5"',
        "pool.dev.image is missing",
        "pool.dev.count: 101",
      ])
        assert.ok(error.message.includes(problem), `${problem}: ${error.message}`);
      return true;
    },
  );
});

test("a pool has what it names, and the defaults for the rest are not its own", () => {
  const { pools } = parseConfig(
    "config.toml",
    '[pool.b]\nimage = "debian"\n[pool.a]\nimage = "debian"\nmemory = "1G"',
  );
  assert.deepEqual(
    pools.map(({ name, count, memoryBytes, cpus }) => [name, count, memoryBytes, cpus]),
    [
      ["b", 1, undefined, undefined],
      ["a", 1, 2 ** 30, undefined],
    ],
  );
});

test("a policy of a config is that of the same rules elsewhere", () => {
  const toml =
    '[network.policies.office]\ndefault = "deny"\nrules = [ { allow = "10.20.0.0/16", ports = [5432] } ]';
  const rule = { action: "allow", to: "10.20.0.0/16", protocol: "tcp", ports: { first: 5432, last: 5432 } };
  assert.deepEqual(parseConfig("config.toml", toml).network.policies, {
    office: { default: "deny", rules: [rule] },
  });
});

test("docs/configuration.md shows every key, and no other", () => {
  const page = readFileSync(join(import.meta.dirname, "../../docs/configuration.md"), "utf8");
  const toml = (/```toml\n(.*?)```/s.exec(page)?.[1] ?? "").replace("https://…", "https://example.org");
  parseConfig("docs/configuration.md", toml);
  const shown = keysOf(parse(toml)).map((key) =>
    key.replace("pool.small.", "pool.NAME.").replace("network.policies.office.", "network.policies.NAME."),
  );
  // A pool shows the keys that only pools have, and names the others, which are those of [defaults] and init.
  const asInDefaults = ["cpus", "disk", "network", "init"].map((key) => `pool.NAME.${key}`);
  assert.match(page, /optional: cpus, memory, disk and network \(else \[defaults\]\), and init/);
  assert.deepEqual(new Set([...shown, ...asInDefaults]), new Set(configKeys()));
});

function keysOf(table: object, prefix = ""): string[] {
  return Object.entries(table).flatMap(([key, value]: [string, unknown]) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? keysOf(value, `${prefix}${key}.`)
      : [`${prefix}${key}`],
  );
}
