import assert from "node:assert/strict";
import { PassThrough, Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { test } from "node:test";
import { Hearth } from "#sdk/hearth.ts";
import { BreakableRelay } from "#testing/breakable-relay.ts";
import { letWork, writtenOn } from "#testing/fake-guest.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

test("a program creates a snapshot, restores it, creates a VM from it, and deletes it", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const hearth = await served.client();
  const made = await hearth.snapshots.create({ vm: "web", name: "before" });
  assert.equal(made.hasMemory, true);
  assert.equal((await hearth.snapshots.show(made.id)).name, "before");
  await hearth.vm("web").kill();
  const back = await hearth.snapshots.restore("before");
  assert.equal((await back.show()).phase, "running");
  const other = await hearth.vms.create({ snapshot: "before", name: "web-2", cold: true });
  assert.equal((await other.show()).image, made.image);
  await assert.rejects(hearth.snapshots.remove("before"), { code: "snapshot.in_use", hint: /hearth stop/ });
  await back.stop();
  await other.remove();
  await hearth.snapshots.remove("before");
  assert.deepEqual(await hearth.snapshots.list(), []);
  const gone = { code: "snapshot.not_found", hint: /hearth snapshot ls/ };
  await assert.rejects(hearth.snapshots.restore("before"), gone);
});

test("a fork returns handles of the copies, each with its own name", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const vm = (await served.client()).vm("web");
  assert.deepEqual(
    (await vm.fork()).map(({ name }) => name),
    ["web-1"],
  );
  const workers = await vm.fork({ count: 2, name: "worker", autoRemove: true });
  assert.deepEqual(
    workers.map(({ name }) => name),
    ["worker-1", "worker-2"],
  );
  assert.equal((await workers[0]?.show())?.autoRemove, true);
});

test("a VM is suspended, resumed, and started as if it had never run", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const vm = (await served.client()).vm("web");
  assert.equal((await vm.suspend()).phase, "suspended");
  assert.equal((await vm.resume()).phase, "running");
  letWork(served.host.machine.vmm("web"));
  await vm.stop();
  assert.equal((await vm.start({ fresh: true })).phase, "running");
  assert.equal(writtenOn(served.host.machine.vmm("web")), 0);
});

test("templates are created, listed, deleted and pruned, and those in use stay", async (t) => {
  const served = await serveDaemon(t, { config: "warm.enabled = true" });
  const { templates, warm } = await served.client();
  assert.equal(warm, templates, "the older name");
  const one = await templates.build({ image: "debian", cpus: 1 });
  const other = await templates.build({ image: "debian" });
  assert.equal(one.cpus, 1);
  assert.deepEqual(
    (await templates.list()).map(({ id }) => id),
    [other.id, one.id],
  );
  await served.run("web", { image: "debian", cpus: 1 }); // The VM maps the template's memory.
  assert.deepEqual(await templates.prune(), { removed: 1 });
  await assert.rejects(templates.remove(one.id), { code: "snapshot.in_use" });
  await assert.rejects(templates.remove(other.id), { code: "snapshot.not_found" });
});

test("a snapshot is exported as a stream and imported from one, under its name or another", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const { snapshots } = await served.client();
  await snapshots.create({ vm: "web", name: "before" });
  const archive = await buffer(await snapshots.export("before"));
  const options = { name: "after", onProgress: () => {} };
  assert.equal((await snapshots.import(Readable.from([archive]), options)).name, "after");
  await snapshots.remove("before");
  assert.equal((await snapshots.import(Readable.from([archive]))).name, "before");
});

test("an export fails before its first byte if the snapshot does not exist, and at its end if it is cut off", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const relay = await BreakableRelay.start(t, served);
  const { snapshots } = await Hearth.connect({ socketPath: relay.socketPath });
  await assert.rejects(snapshots.export("gone"), { code: "snapshot.not_found" });
  await snapshots.create({ vm: "web", name: "before" });
  relay.bodyLimit = { bytes: 200, cut: true };
  const cut = { code: "daemon.unreachable", hint: /hearth daemon logs/ };
  await assert.rejects(buffer(await snapshots.export("before")), cut);
  const given = await snapshots.export("before");
  given.destroy(new Error("mine"));
  await assert.rejects(buffer(given), { message: "mine" });
});

test("an import whose stream breaks, or has broken, ends with the stream's error", async (t) => {
  const served = await serveDaemon(t);
  const { snapshots } = await served.client();
  const broken = { message: "the disk is gone" };
  async function* breaking(): AsyncGenerator<Buffer> {
    yield Buffer.from("archive:");
    throw new Error("the disk is gone");
  }
  await assert.rejects(snapshots.import(Readable.from(breaking())), broken);
  const early = new PassThrough();
  early.destroy(new Error("the disk is gone"));
  await assert.rejects(snapshots.import(early), broken);
  await assert.rejects(snapshots.import(new PassThrough().destroy()), { code: "input.invalid" });
  assert.deepEqual(await snapshots.list(), []);
});
