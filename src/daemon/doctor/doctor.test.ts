import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { DoctorCheck } from "#api/wire.ts";
import type { Daemon } from "#daemon/daemon.ts";
import { runChecks } from "#daemon/doctor/doctor.ts";
import type { FoundFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";
import type { DriverFeatures, VmDriver } from "#drivers/vm-driver.ts";
import type { Limitations } from "#helper/privileged-port.ts";
import { daemonOver } from "#testing/fake-daemon.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";

const MISSING = { ok: false, reason: "Firecracker is not installed.", hint: "Install it." } as const;
const FOUND: FoundFirecracker = {
  ok: true,
  program: "/opt/fc/firecracker",
  jailer: "/opt/fc/jailer",
  version: "1.12.1",
  source: "config",
  ownerUid: 0,
  mode: 0o755,
};

type CheckOptions = {
  readonly production?: boolean;
  readonly limitations?: Partial<Limitations>;
  /** Called each time that a driver is asked for its features. */
  readonly features?: () => Partial<DriverFeatures>;
  readonly checkKvm?: Daemon["checkKvm"];
};

/** Runs the checks on a host with the fake driver, if that works, and one that is called "firecracker". */
async function check(
  t: TestContext,
  fakeWorks: boolean,
  available: DriverFeatures["available"],
  found: FoundFirecracker,
  { production = false, limitations = {}, features: more, checkKvm }: CheckOptions = {},
): Promise<Map<string, DoctorCheck>> {
  using machine = new FakeMachine();
  const host = new FakeHost(machine);
  t.after(() => host.store.close());
  for (const dir of [host.dirs.state, host.dirs.cache]) mkdirSync(dir);
  const features = await host.driver.features(t.signal);
  const driver = (name: string, is: DriverFeatures["available"]): [string, VmDriver] => [
    name,
    Object.assign(Object.create(host.driver) as VmDriver, {
      name,
      features: async () => ({ ...features, ...more?.(), available: is }),
    }),
  ];
  const drivers = new Map([
    driver("fake", fakeWorks ? { ok: true } : { ok: false, reason: "It is broken.", hint: "Mend it." }),
    driver("firecracker", available),
  ]);
  const firecrackers = { ...host.firecrackers, find: async () => found };
  const images = { ...host.images, list: async () => [] };
  Object.assign(host, {
    drivers,
    firecrackers,
    images,
    limitations: { ...host.limitations, ...limitations },
  });
  const daemon = daemonOver(host, undefined, checkKvm === undefined ? {} : { checkKvm });
  const { checks } = await runChecks(daemon, { fresh: false, production }, t.signal);
  const names = checks.map(({ name }) => name).filter((name) => !name.endsWith(" guarantees"));
  assert.deepEqual(names, [...new Set(names)], "each thing has one line");
  return new Map(checks.map((one) => [one.name, one]));
}

test("the accelerator is the one that the check of KVM has found, and open until it was made", async (t) => {
  for (const [asked, line] of [
    [true, "version 1.0, kvm"],
    [false, "version 1.0, KVM or emulation; the first run finds out"],
  ] as const) {
    let found = false;
    const features = () => ({ version: "1.0", accel: found ? "kvm" : "tcg", accelAssumed: !found }) as const;
    const checkKvm = async () => {
      found = asked;
      return { name: "kvm", verdict: "pass", found: "" } as const;
    };
    const checks = await check(t, true, MISSING, { ...MISSING, refused: undefined }, { features, checkKvm });
    assert.equal(checks.get("fake")?.found, line);
  }
});

test("a missing driver is a warning beside one that works, and reported once", async (t) => {
  const checks = await check(t, true, MISSING, { ...MISSING, refused: undefined });
  assert.equal(checks.get("fake")?.verdict, "pass");
  assert.deepEqual(checks.get("firecracker"), {
    name: "firecracker",
    verdict: "warn",
    found: "Firecracker is not installed.",
    fix: "Install it.",
  });
  assert.equal(checks.has("firecracker program"), false);
});

test("without a driver that works, each that does not is a failure", async (t) => {
  const checks = await check(t, false, MISSING, { ...MISSING, refused: undefined });
  assert.deepEqual([checks.get("fake")?.verdict, checks.get("firecracker")?.verdict], ["fail", "fail"]);
});

test("the Firecracker that is used is shown with version, source, owner and mode", async (t) => {
  const checks = await check(t, true, { ok: true }, FOUND);
  const program = checks.get("firecracker program");
  assert.equal(program?.verdict, "pass");
  assert.equal(program.found, "1.12.1 from config.toml (uid 0, mode 0755): /opt/fc/firecracker");
});

test("networks that VMs cannot have are a warning, also on a host for production", async (t) => {
  for (const production of [false, true]) {
    const checks = await check(t, true, { ok: true }, FOUND, {
      production,
      limitations: { network: "Not here." },
    });
    assert.deepEqual([checks.get("networks")?.verdict, checks.get("networks")?.found], ["warn", "Not here."]);
  }
});

test("networks that are connected by pasta are named as such, with what their policies lack", async (t) => {
  const limitations = { uid: "Not root.", domains: "No names." };
  const checks = await check(t, true, { ok: true }, FOUND, { limitations });
  assert.match(checks.get("networks")?.found ?? "", /by pasta; policies have no domains/);
});

for (const [name, gap] of [
  ["uids", "uid"],
  ["cgroups", "cgroup"],
] as const) {
  test(`${name} that are missing are a warning, and a failure on a host for production`, async (t) => {
    for (const [production, verdict] of [
      [false, "warn"],
      [true, "fail"],
    ] as const) {
      const there = await check(t, true, { ok: true }, FOUND, { production });
      assert.equal(there.get(name)?.verdict, "pass");
      const lacking = await check(t, true, { ok: true }, FOUND, {
        production,
        limitations: { [gap]: "Not here." },
      });
      assert.deepEqual([lacking.get(name)?.verdict, lacking.get(name)?.found], [verdict, "Not here."]);
    }
  });
}
