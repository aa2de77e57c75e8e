import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { HearthError } from "#base/error.ts";
import { apiRequest, type Payload } from "#drivers/firecracker/api/api-request.ts";
import { isAtLeast, parseFirecrackerVersion } from "#drivers/firecracker/api/firecracker-version.ts";
import {
  type Broken,
  type FeatureName,
  FEATURES,
  findFault,
  hasFeature,
  requireFeatures,
} from "#drivers/firecracker/api/version-features.ts";
import { FIRECRACKER_1_12_CALLS, FIRECRACKER_CALLS } from "#testing/firecracker-calls.ts";

type Call = { readonly request: string; readonly body: Payload | undefined };

function refusalOf({ request, body }: Call, version: string): HearthError | undefined {
  const [method = "GET", path = "/"] = request.split(" ");
  try {
    requireFeatures(
      apiRequest(method as "GET" | "PUT" | "PATCH", path, body),
      parseFirecrackerVersion(version),
    );
  } catch (error) {
    assert.ok(error instanceof HearthError && error.code === "feature.missing", String(error));
    return error;
  }
  return undefined;
}

/** Returns, for each call of the client, the features for which it was refused. */
function refused(version: string): string[] {
  const hits = FIRECRACKER_CALLS.filter((call) => refusalOf(call, version) !== undefined);
  return [...new Set(hits.map(({ request }) => request))].toSorted();
}

const SINCE_1_14 = [
  "GET /balloon/hinting/status",
  "GET /hotplug/memory",
  "PATCH /balloon/hinting/start",
  "PATCH /balloon/hinting/stop",
  "PATCH /hotplug/memory",
  "PATCH /pmem/p0",
  "PUT /balloon",
  "PUT /hotplug/memory",
  "PUT /pmem/p0",
  "PUT /serial",
];
const SINCE_1_16 = [
  "PATCH /pmem/p0",
  "PUT /network-interfaces/eth0",
  "PUT /pmem/p0",
  "PUT /serial",
  "PUT /snapshot/load",
];
const SINCE_1_17 = ["PATCH /machine-config", "PUT /metrics", "PUT /snapshot/load"];

const sorted = (...lists: readonly (readonly string[])[]): string[] => [...new Set(lists.flat())].toSorted();

describe("a version", () => {
  test("with all features gets all requests", () => assert.deepEqual(refused("1.17.0"), []));
  test("1.16 gets no request for later features", () => assert.deepEqual(refused("1.16.1"), SINCE_1_17));
  test("1.15 gets no request for later features", () =>
    assert.deepEqual(refused("1.15.1"), sorted(SINCE_1_16, SINCE_1_17)));
  test("1.13 gets no request for later features", () =>
    assert.deepEqual(refused("1.13.1"), sorted(SINCE_1_14, SINCE_1_16, SINCE_1_17)));
  test("1.12 gets no request for later features", () =>
    assert.deepEqual(refused("1.12.1"), sorted(["PUT /mmds/config"], SINCE_1_14, SINCE_1_16, SINCE_1_17)));
  test("1.12 gets the field for diff snapshots by its older name", () => {
    for (const call of FIRECRACKER_1_12_CALLS) assert.equal(refusalOf(call, "1.12.1"), undefined);
  });

  for (const [name, feature] of Object.entries(FEATURES)) {
    test(`has ${name} from ${feature.since} on`, () => {
      const [major = 0, minor = 0] = feature.since.split(".").map(Number);
      const has = (text: string): boolean => hasFeature(parseFirecrackerVersion(text), name as FeatureName);
      assert.equal(has(feature.since), true);
      assert.equal(has(`${major}.${minor - 1}.0`), false);
      assert.equal(has("2.0.0"), true);
      const users = FIRECRACKER_CALLS.filter(
        (call) => refusalOf(call, `${major}.${minor - 1}.0`) && !refusalOf(call, "1.17.0"),
      );
      assert.ok(users.length > 0);
    });
  }

  test("is named in the error together with the version that has the missing feature", () => {
    const error = refusalOf({ request: "PUT /pmem/p0", body: {} }, "v1.12.1");
    assert.equal(error?.message, "Firecracker 1.12.1 has no pmem device.");
    assert.equal(error?.hint, "Use Firecracker 1.14.0 or newer.");
  });
});

describe("1.16.0", () => {
  const snapshot = { request: "PUT /snapshot/create", body: { mem_file_path: "m", snapshot_path: "s" } };
  const load = { request: "PUT /snapshot/load", body: { snapshot_path: "s", mem_file_path: "m" } };

  test("is refused for snapshots, with the reason", () => {
    for (const call of [snapshot, load]) {
      const error = refusalOf(call, "1.16.0");
      assert.match(error?.message ?? "", /^Firecracker 1\.16\.0 loses the vsock after a restore/);
      assert.equal(error?.hint, "Use Firecracker 1.16.2 or newer, or 1.15.1.");
    }
  });

  test("is the only version that is", () => {
    for (const version of ["1.12.1", "1.15.0", "1.16.1", "1.17.0-dev"]) {
      for (const call of [snapshot, load]) assert.equal(refusalOf(call, version), undefined, version);
    }
  });
});

describe("a fault", () => {
  const brokenIn = (what: Broken): string[] =>
    VERSIONS.filter((text) => findFault(parseFirecrackerVersion(text), what) !== undefined);
  // Each release in which a fault begins or ends, with its neighbours.
  const VERSIONS = (
    "1.12.0 1.12.1 1.13.2 1.14.0 1.14.1 1.14.2 1.14.3 1.14.4 1.14.5 " +
    "1.15.0 1.15.1 1.15.2 1.16.0 1.16.1 1.16.2 1.17.0-dev 1.17.0"
  ).split(" ");

  test("that makes VMs unreachable is in 1.16.0 and 1.16.1", () => {
    assert.deepEqual(brokenIn("vm"), ["1.16.0", "1.16.1"]);
    const fault = findFault(parseFirecrackerVersion("1.16.1"), "vm");
    assert.equal(
      fault?.message,
      "Firecracker 1.16.1 makes a VM that was paused unreachable for good when it is resumed.",
    );
    assert.equal(fault?.hint, "Use Firecracker 1.16.2 or newer, or 1.15.1.");
  });

  test("that corrupts diff snapshots is in 1.14.0 and 1.14.1, which may make full ones only", () => {
    assert.deepEqual(brokenIn("diff-snapshot"), ["1.14.0", "1.14.1"]);
    const create = (type: string): Call => ({
      request: "PUT /snapshot/create",
      body: { mem_file_path: "m", snapshot_path: "s", snapshot_type: type },
    });
    assert.equal(refusalOf(create("Full"), "1.14.1"), undefined);
    assert.match(refusalOf(create("Diff"), "1.14.1")?.message ?? "", /more than 3 GiB .* corrupt/);
    assert.equal(refusalOf(create("Diff"), "1.14.2"), undefined);
  });

  test("that moves a restored guest's clock is in all before 1.14.4, and in 1.15.0", () => {
    const jumping = ["1.12.0", "1.12.1", "1.13.2", "1.14.0", "1.14.1", "1.14.2", "1.14.3", "1.15.0"];
    assert.deepEqual(brokenIn("guest-clock"), jumping);
  });
});

test("a feature with backports is in later patch releases of those branches", () => {
  const having = ["1.13.9", "1.14.3", "1.14.4", "1.14.5", "1.15.0", "1.15.1", "1.16.0"].filter((text) =>
    hasFeature(parseFirecrackerVersion(text), "clock-realtime"),
  );
  assert.deepEqual(having, ["1.14.4", "1.14.5", "1.15.1", "1.16.0"]);
});

describe("a version's text", () => {
  test("is parsed from answers, from the command line and from tags", () => {
    const read = (text: string) => {
      const { major, minor, patch, text: said } = parseFirecrackerVersion(text);
      return [major, minor, patch, said];
    };
    assert.deepEqual(read("1.12.1"), [1, 12, 1, "1.12.1"]);
    assert.deepEqual(read("v1.16.0-dev"), [1, 16, 0, "1.16.0-dev"]);
    assert.deepEqual(read("Firecracker v1.12.1\n\n2026-01-01T10:00:00.1 [a:main] exit_code=0\n"), [
      1,
      12,
      1,
      "1.12.1",
    ]);
  });

  test("without a version is an error", () => {
    for (const text of ["", "Firecracker", "1.12", "undefined"])
      assert.throws(() => parseFirecrackerVersion(text), { code: "vmm.failed" });
  });

  test("is compared by numbers, not by letters", () => {
    const at = (text: string, least: string) => isAtLeast(parseFirecrackerVersion(text), least);
    assert.equal(at("1.9.0", "1.12.0"), false);
    assert.equal(at("1.100.0", "1.12.0"), true);
    assert.equal(at("2.0.0", "1.12.0"), true);
    assert.equal(at("1.12.0", "1.12.1"), false);
    assert.equal(at("1.12.1", "1.12.1"), true);
  });
});
