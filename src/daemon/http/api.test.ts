import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import type { ErrorBody } from "#base/error.ts";
import type { Snapshot, Vm } from "#api/wire.ts";
import { Vms } from "#daemon/vm/vms.ts";
import { localApi } from "#testing/local-api.ts";
import { daemonOver, fakeDaemonParts } from "#testing/fake-daemon.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";

type Answer = { status: number; headers: Headers; body: unknown };

function setUp(t: TestContext) {
  const machine = new FakeMachine();
  const host = new FakeHost(machine);
  const vms = new Vms(host);
  const daemon = daemonOver(host, fakeDaemonParts(host, vms), { version: "1.2.3" });
  const api = localApi(daemon);
  t.after(() => {
    vms.detachAll();
    host.store.close();
    machine[Symbol.dispose]();
  });
  const ask = async (method: string, path: string, body?: unknown, headers: object = {}): Promise<Answer> => {
    const text = typeof body === "string" ? body : JSON.stringify(body);
    const init = body === undefined ? {} : { body: text };
    const response = await api.request(path, {
      method,
      headers: { "content-type": "application/json", ...headers },
      ...init,
    });
    const answer = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: answer === "" ? undefined : JSON.parse(answer),
    };
  };
  return { machine, host, ask };
}

function errorOf({ body }: Answer): ErrorBody {
  return (body as { error: ErrorBody }).error;
}

test("a VM goes through its life over the API", async (t) => {
  const { machine, ask } = setUp(t);
  const created = await ask("POST", "/v1/vms", { image: "debian", name: "web" });
  assert.equal(created.status, 201);
  assert.equal((created.body as Vm).phase, "created");
  assert.equal(((await ask("POST", "/v1/vms/web/start")).body as Vm).phase, "running");
  assert.equal(((await ask("POST", "/v1/vms/web/pause")).body as Vm).phase, "paused");
  assert.equal(((await ask("POST", "/v1/vms/web/resume")).body as Vm).phase, "running");
  assert.equal(((await ask("POST", "/v1/vms/web/stop", {})).body as Vm).phase, "stopped");
  assert.equal((await ask("DELETE", "/v1/vms/web")).status, 204);
  assert.deepEqual((await ask("GET", "/v1/vms")).body, []);
  assert.deepEqual(machine.leftovers(), []);
});

test("what a VM was created with is read back, with its sizes and its network", async (t) => {
  const { ask } = setUp(t);
  const sizes = { cpus: 3, memoryBytes: 512 * 2 ** 20, diskBytes: 5 * 2 ** 30, network: "nat" };
  assert.equal((await ask("POST", "/v1/vms", { image: "debian", name: "web", ...sizes })).status, 201);
  const { cpus, memoryBytes, diskBytes, network } = (await ask("GET", "/v1/vms/web")).body as Vm;
  assert.deepEqual({ cpus, memoryBytes, diskBytes, network }, sizes);
});

test("the older path of templates, /v1/warm, is an alias of /v1/templates", async (t) => {
  const { ask } = setUp(t);
  assert.deepEqual((await ask("GET", "/v1/templates")).body, []);
  assert.deepEqual((await ask("GET", "/v1/warm")).body, []);
  assert.deepEqual((await ask("POST", "/v1/warm/prune")).body, { removed: 0 });
  assert.equal(errorOf(await ask("DELETE", "/v1/warm/sn-0123456789ab")).code, "snapshot.not_found");
  assert.equal(errorOf(await ask("PUT", "/v1/warm")).code, "api.wrong_method");
  assert.equal(errorOf(await ask("GET", "/v1/warmer")).code, "api.not_found");
});

test("a list of VMs has those that all filters choose, and hearthd says which filter is none", async (t) => {
  const { ask } = setUp(t);
  const vms = [
    { image: "debian", name: "web", labels: { team: "web", ci: "" } },
    { image: "debian", name: "old", labels: { team: "web" } },
    { image: "debian", name: "db" },
  ];
  for (const vm of vms) assert.equal((await ask("POST", "/v1/vms", vm)).status, 201);
  const names = async (query: string): Promise<string[]> =>
    ((await ask("GET", `/v1/vms${query}`)).body as Vm[]).map(({ name }) => name).toSorted();
  assert.deepEqual(await names(""), ["db", "old", "web"]);
  assert.deepEqual(await names("?filter=label%3Dteam%3Dweb"), ["old", "web"]);
  assert.deepEqual(await names("?filter=label%3Dteam&filter=label%3Dci"), ["web"]);
  assert.deepEqual(await names("?filter=state%3Drunning"), []);
  const refused = await ask("GET", "/v1/vms?filter=name%3Dweb&filter=team%3Dweb");
  assert.deepEqual([refused.status, errorOf(refused).code], [400, "input.invalid"]);
  const changed = (await ask("PATCH", "/v1/vms/web", { labels: { ci: null, a: "b" } })).body as Vm;
  assert.deepEqual(
    [changed.owner, changed.generation, changed.labels],
    ["local", 1, { team: "web", a: "b" }],
  );
});

test("a snapshot is made with labels and an owner, and the list has those that all filters choose", async (t) => {
  const { ask } = setUp(t);
  for (const name of ["web", "db"]) await ask("POST", "/v1/vms", { image: "debian", name });
  const [labels, more] = [{ nightly: "", kept: "yes" }, { nightly: "" }];
  const made = await ask("POST", "/v1/snapshots", { vm: "web", name: "before", labels });
  assert.equal(made.status, 201);
  assert.deepEqual([(made.body as Snapshot).owner, (made.body as Snapshot).labels], ["local", labels]);
  await ask("POST", "/v1/snapshots", { vm: "db", name: "before-db", labels: more });
  assert.deepEqual(
    ((await ask("POST", "/v1/snapshots", { vm: "db", name: "after" })).body as Snapshot).labels,
    {},
  );
  const names = async (query: string): Promise<(string | undefined)[]> =>
    ((await ask("GET", `/v1/snapshots${query}`)).body as Snapshot[]).map(({ name }) => name).toSorted();
  assert.deepEqual(await names(""), ["after", "before", "before-db"]);
  assert.deepEqual(await names("?filter=label%3Dnightly"), ["before", "before-db"]);
  assert.deepEqual(await names("?filter=label%3Dnightly&filter=vm%3Ddb"), ["before-db"]);
  assert.deepEqual(((await ask("GET", "/v1/snapshots/before")).body as Snapshot).labels, labels);
  for (const [method, path, body] of [
    ["GET", "/v1/snapshots?filter=state%3Drunning"],
    ["POST", "/v1/snapshots", { vm: "web", labels: { "a b": "" } }],
  ] as const) {
    const refused = await ask(method, path, body);
    assert.deepEqual([refused.status, errorOf(refused).code], [400, "input.invalid"], path);
  }
});

const REFUSED: { title: string; body: unknown; problem: RegExp }[] = [
  { title: "without an image", body: {}, problem: /image/ },
  {
    title: "with a label whose key is none",
    body: { image: "debian", labels: { "a b": "" } },
    problem: /labels.*key/,
  },
  {
    title: "with a label that is no text",
    body: { image: "debian", labels: { a: 1 } },
    problem: /labels\.a/,
  },
  { title: "with a field that nobody knows", body: { image: "debian", cpu: 1 }, problem: /cpu/ },
  { title: "with no CPU", body: { image: "debian", cpus: 0 }, problem: /cpus/ },
  { title: "with half a CPU", body: { image: "debian", cpus: 1.5 }, problem: /cpus/ },
  { title: "with CPUs as text", body: { image: "debian", cpus: "2" }, problem: /cpus/ },
  {
    title: "with 129 GiB of disk",
    body: { image: "debian", diskBytes: 129 * 2 ** 30 },
    problem: /diskBytes/,
  },
  {
    title: "with a name that leaves a directory",
    body: { image: "debian", name: "box/../evil" },
    problem: /name/,
  },
  { title: "with an image that leaves a directory", body: { image: "../../etc" }, problem: /image/ },
  { title: "with a NUL byte in a variable", body: { image: "debian", env: { "A\0": "1" } }, problem: /env/ },
  {
    title: "with an init of its own",
    body: { image: "debian", bootArgs: ["rdinit=/bin/sh"] },
    problem: /rdinit/,
  },
  {
    title: "with two wrong fields names both",
    body: { image: "debian", cpus: 0, memoryBytes: 1 },
    problem: /cpus.*memoryBytes/,
  },
  { title: "as a list", body: [], problem: /./ },
  { title: "as text", body: "not json", problem: /./ },
];
for (const { title, body, problem } of REFUSED) {
  test(`a create ${title} is refused with the field, and leaves no row`, async (t) => {
    const { host, ask } = setUp(t);
    const answer = await ask("POST", "/v1/vms", body);
    assert.equal(answer.status, 400);
    assert.equal(errorOf(answer).code, "input.invalid");
    assert.match(errorOf(answer).message, problem);
    assert.deepEqual(host.store.listVms(), []);
  });
}

test("an operation id goes from the request into the answer, the error and the log", async (t) => {
  const { machine, ask } = setUp(t);
  const answer = await ask("GET", "/v1/vms/nobody", undefined, { "hearth-operation": "op-0123456789ab" });
  assert.equal(answer.status, 404);
  assert.equal(answer.headers.get("hearth-operation"), "op-0123456789ab");
  assert.equal(answer.headers.get("hearth-version"), "1.2.3");
  assert.equal(errorOf(answer).operation, "op-0123456789ab");
  const logged = machine.events.find(({ name }) => name === "api.failed");
  const fields = logged?.fields as { operation?: string } | undefined;
  assert.equal(fields?.operation, "op-0123456789ab");
});

test("an operation id that is none is refused, and not logged as one", async (t) => {
  const { ask } = setUp(t);
  const answer = await ask("GET", "/v1/vms", undefined, { "hearth-operation": "op-'; DROP TABLE vms" });
  assert.equal(answer.status, 400);
});

for (const path of ["/v1/nothing", "/", "/v1/vms/a/b/c", "/v1/vms/..%2f..%2fetc/start"]) {
  test(`${path} is answered with an error of the API`, async (t) => {
    const { ask } = setUp(t);
    const answer = await ask("POST", path);
    assert.equal(answer.status, 404);
    assert.ok(["api.not_found", "vm.not_found"].includes(errorOf(answer).code));
  });
}

test("a path of the API with a wrong method is answered with the right ones, and not with 404", async (t) => {
  const { ask } = setUp(t);
  for (const [method, path, methods] of [
    ["PUT", "/v1/vms", "GET, POST"],
    ["GET", "/v1/vms/web/start", "POST"],
    ["POST", "/v1/vms/web", "DELETE, GET, PATCH"],
  ] as const) {
    const answer = await ask(method, path);
    assert.equal(answer.status, 405);
    assert.equal(errorOf(answer).code, "api.wrong_method");
    assert.ok(errorOf(answer).message.endsWith(`, but ${methods}.`), errorOf(answer).message);
  }
});

test("internal VMs do not exist for a client, also not by name", async (t) => {
  const { ask, host } = setUp(t);
  await ask("POST", "/v1/vms", { name: "web", image: "debian" });
  await ask("POST", "/v1/vms", { name: "other", image: "debian" });
  assert.equal((await ask("GET", "/v1/vms/web")).status, 200);
  const vm = host.store.getVm("web");
  host.store.setSpec(vm.id, { ...vm.spec, internal: "background" });
  const asked: readonly (readonly [string, string, unknown?])[] = [
    ["GET", "/v1/vms/web"],
    ["GET", `/v1/vms/${vm.id}`],
    ["POST", "/v1/vms/web/start"],
    ["DELETE", "/v1/vms/web?force=true"],
    ["GET", "/v1/vms/web/files?path=%2Fetc"],
    ["POST", "/v1/snapshots", { vm: "web", name: "s1" }],
  ];
  for (const [method, path, body] of asked) {
    const answer = await ask(method, path, body);
    assert.equal(answer.status, 404, `${method} ${path}`);
    assert.equal(errorOf(answer).code, "vm.not_found");
  }
  assert.equal((await ask("GET", "/v1/vms/other")).status, 200);
});

test("an internal VM is an image's user, without its name", async (t) => {
  const { ask, host } = setUp(t);
  for (const name of ["web", "own"]) await ask("POST", "/v1/vms", { name, image: "debian" });
  const { id, spec, imageDigest } = host.store.getVm("own");
  host.store.setSpec(id, { ...spec, internal: "background" });
  const image = {
    ref: "debian:bookworm",
    digest: imageDigest,
    current: true,
    kernel: "6.1",
    inits: ["agent"],
  };
  const built = { ...image, sizeBytes: 1, allocatedBytes: 1, builtAtMs: 1, files: [] };
  Object.assign(host.images, { list: async () => [built], get: async () => built });
  const { body } = await ask("GET", "/v1/images");
  const [{ usedBy }] = body as [{ usedBy: string[] }];
  assert.deepEqual(usedBy, ["web", "a VM that hearthd makes for a template or a pool"]);
  const refused = await ask("DELETE", "/v1/images/debian");
  assert.deepEqual([refused.status, errorOf(refused).code], [409, "image.in_use"]);
  assert.ok(!errorOf(refused).message.includes("own"), errorOf(refused).message);
});

test("variables of more than 1 MiB are refused, and the hint says what to do with them", async (t) => {
  const { ask } = setUp(t);
  const env = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`V${index}`, "x".repeat(100_000)]));
  const refused = await ask("POST", "/v1/vms", { name: "web", image: "debian", env: env(11) });
  assert.equal(refused.status, 413);
  assert.equal(errorOf(refused).code, "input.too_large");
  assert.match(errorOf(refused).hint ?? "", /hearth cp/);
  assert.equal((await ask("POST", "/v1/vms", { name: "web", image: "debian", env: env(10) })).status, 201);
});

test("an action at the wrong time is refused with what to do first", async (t) => {
  const { ask } = setUp(t);
  await ask("POST", "/v1/vms", { image: "debian", name: "web" });
  const answer = await ask("POST", "/v1/vms/web/pause");
  assert.equal(answer.status, 409);
  assert.equal(errorOf(answer).code, "vm.wrong_phase");
  assert.match(errorOf(answer).hint ?? "", /hearth start web/);
});

test("an image whose name is invalid is refused by the rule for names, and not looked up", async (t) => {
  const { ask } = setUp(t);
  assert.equal((await ask("GET", "/v1/images/none")).status, 404);
  for (const ref of ["a%00b", "a".repeat(5_000), "..%2Fa"]) {
    for (const method of ["GET", "DELETE"]) {
      const answer = await ask(method, `/v1/images/${ref}`);
      assert.deepEqual(
        [answer.status, errorOf(answer).code],
        [400, "input.invalid"],
        `${method} ${ref.slice(0, 9)}`,
      );
    }
  }
});
