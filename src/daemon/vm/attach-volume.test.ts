import assert from "node:assert/strict";
import { test } from "node:test";
import { MIB } from "#base/sizes.ts";
import { Vms } from "#daemon/vm/vms.ts";
import { parseVolumeName } from "#model/ids.ts";
import { parseVolumeMount } from "#model/volume.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";

test("volumes are attached and detached while a VM does not run; they count as its own at once", async (t) => {
  using machine = new FakeMachine();
  const host = new FakeHost(machine);
  const vms = new Vms(host);
  t.after(() => {
    vms.detachAll();
    host.store.close();
  });
  const call = vms.background();
  await host.volumes.cleanUp();
  const name = parseVolumeName("data");
  await vms.create({ name: "web", image: "debian" }, false, call);
  const attach = (text: string) => vms.attachVolume("web", parseVolumeMount(text), call);
  await assert.rejects(attach("data:/data"), { code: "volume.not_found" });
  await host.volumes.create({ name, sizeBytes: 64 * MIB }, t.signal);
  assert.deepEqual((await attach("data:/data:ro")).spec.volumes, [{ name, path: "/data", readOnly: true }]);
  await assert.rejects(attach("data:/other"), { code: "input.invalid" });

  await vms.start("web", call);
  assert.deepEqual(
    machine.vmms
      .running()[0]
      ?.plan.disks.map(({ id, readOnly }) => [id.replace(/^vol-[0-9a-f]{16}$/, "vol-…"), readOnly]),
    [
      ["base", true],
      ["own", false],
      ["vol-…", true],
    ],
  );
  for (const refused of [() => attach("data:/other"), () => vms.detachVolume("web", name, call)])
    await assert.rejects(refused(), { code: "feature.missing", hint: /hearth stop web/ });
  await vms.stop("web", { mode: "kill", timeoutMs: 0 }, call);
  assert.deepEqual((await vms.detachVolume("web", name, call)).spec.volumes, []);
  await assert.rejects(vms.detachVolume("web", name, call), { code: "volume.not_found" });
});

test("of two VMs that write one volume the second is refused at its start, and keeps its state", async (t) => {
  using machine = new FakeMachine();
  const host = new FakeHost(machine);
  const vms = new Vms(host);
  t.after(() => {
    vms.detachAll();
    host.store.close();
  });
  const call = vms.background();
  await host.volumes.cleanUp();
  await host.volumes.create({ name: parseVolumeName("data"), sizeBytes: 64 * MIB }, t.signal);
  const volumes = [{ name: "data", path: "/data" }];
  for (const name of ["one", "two"]) await vms.create({ name, image: "debian", volumes }, false, call);
  const started = await Promise.allSettled(["one", "two"].map((name) => vms.start(name, call)));
  const codes = started.map((each) =>
    each.status === "fulfilled" ? "runs" : (each.reason as { code: string }).code,
  );
  assert.deepEqual(codes, ["runs", "volume.in_use"]);
  assert.equal(host.store.getVm("two").state.phase, "created");
});
