/** Several VMs, and several requests, at once. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed();
const CREATE = ["create", "--no-start", ...SMALL];

before(async () => void (await bed.ok(["image", "build", "debian"])));

test("twenty parallel creates share no id, name or path, and take no copy of the image", async () => {
  const hearth = await bed.connect();
  await Promise.all(Array.from({ length: 20 }, () => hearth.vms.create({ image: "debian" })));
  const vms = await hearth.vms.list();
  assert.equal(vms.length, 20);
  for (const distinct of [
    vms.map(({ id }) => id),
    vms.map(({ name }) => name),
    vms.flatMap(({ paths }) => [paths.disk, paths.console, paths.vmmLog, paths.sockets]),
  ])
    assert.equal(new Set(distinct).size, distinct.length);
  const stats = await Promise.all(vms.map(({ name }) => hearth.vm(name).stats()));
  for (const { diskAllocatedBytes } of stats)
    assert.ok(diskAllocatedBytes <= 8 * 1024 ** 2, `${diskAllocatedBytes} bytes of disk blocks for a new VM`);
  await bed.ok(["prune", "-f"]);
  assert.deepEqual(bed.leftovers(), []);
});

test("of two creates of one name at once, one wins and the other is told", async () => {
  const both = await Promise.all([1, 2].map(() => bed.hearth([...CREATE, "--name", "twin", "debian"])));
  assert.deepEqual(both.map(({ code }) => code).toSorted(), [0, 1]);
  assert.match(both.map(({ stderr }) => stderr).join(""), /error: A VM named twin already exists/);
  assert.equal((await bed.vms()).length, 1);
  const third = await bed.hearth([...CREATE, "--name", "twin", "debian"]);
  assert.equal(third.code, 1);
  assert.match(third.stderr, /hint: .*another name/);
});

test("of two removals at once, one wins and the other finds nothing to do; nothing is left", async () => {
  const both = await Promise.all([1, 2].map(() => bed.hearth(["rm", "twin"])));
  const codes = both.map(({ code }) => code).toSorted();
  assert.equal(codes[0], 0, both.map(({ stderr }) => stderr).join(""));
  const again = await bed.hearth(["rm", "twin"]);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /^error: /m);
  assert.deepEqual(await bed.vms(), []);
  assert.deepEqual(bed.leftovers(), []);
});

test("stop of several VMs does not end at one that is missing, and the exit code tells", async () => {
  await Promise.all(
    ["one", "two"].map((name) => bed.ok(["create", "--name", name, "--rm", ...SMALL, "debian"])),
  );
  const result = await bed.hearth(["stop", "one", "absent", "two", "one"]);
  assert.equal(result.code, 1);
  assert.match(result.stderr, /error: .*absent/);
  assert.equal(result.stdout, "one\ntwo\n", "each once, in the order in which they were named");
  await bed.until(async () => (await bed.vms()).length === 0); // They were to go when they do not run.
  assert.deepEqual(bed.leftovers(), []);
});

test("an exec during a forced rm fails with a reason, and the VM is gone", async () => {
  await bed.ok(["create", "--name", "doomed", ...SMALL, "debian"]);
  const hearth = await bed.connect();
  const command = await hearth.vm("doomed").spawn(["sleep", "1000"]);
  await Promise.all([
    assert.rejects(command.exited, { name: "HearthError" }),
    hearth.vm("doomed").remove({ force: true }),
  ]);
  assert.deepEqual(await bed.vms(), []);
  assert.deepEqual(bed.leftovers(), []);
});

test("names and ids that are paths, or too long, are refused or not found, and touch nothing", async () => {
  for (const name of [
    "../../etc",
    "/etc/passwd",
    "a/b",
    ".",
    "..",
    "a".repeat(65_536),
    "ä",
    "a b",
    "%2e%2e",
  ]) {
    for (const verb of ["show", "rm", "start", "logs"]) {
      const { code, stdout } = await bed.hearth([verb, name]);
      assert.ok(code === 1 || code === 2, `${verb} ${name.slice(0, 20)} ended with ${code}`);
      assert.equal(stdout, "");
    }
  }
});
