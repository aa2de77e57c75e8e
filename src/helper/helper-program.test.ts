/** Runs bin/hearth-helper.ts as a process, with one end of a socket pair. */
import assert from "node:assert/strict";
import { readlinkSync, statSync } from "node:fs";
import { test } from "node:test";
import { PortClient } from "#helper/port-client.ts";
import { endProcess } from "#host/process-end.ts";
import { isAlive } from "#host/procfs.ts";
import { HelperPlace, shell, SLEEP, VM } from "#testing/helper-place.ts";
import { openFilesOf } from "#testing/open-files.ts";
import { startHelper } from "#testing/port-pair.ts";

const isRoot = process.geteuid?.() === 0;
const { signal: never } = new AbortController();
test(
  "the helper is a program that serves its fd 3, and ends when hearthd goes",
  { skip: !isRoot },
  async (t) => {
    using place = new HelperPlace();
    const { child, socket, ended } = startHelper(t, place.settings());
    const client = new PortClient(socket);
    const uid = await client.leaseUid(VM);
    await client.giveFiles(VM);
    assert.equal(statSync(place.disk).uid, uid);
    await client.takeFiles(VM);
    await client.releaseUid(VM, never);
    const { process: vmm, exit } = await client.launchVmm(VM, SLEEP, never);
    assert.ok(vmm);
    t.after(() => endProcess(vmm, 0, never));
    await endProcess(vmm, 0, never);
    assert.deepEqual(await exit, { code: null, signal: "SIGKILL" });
    const { process: other } = await client.launchVmm(VM, SLEEP, never);
    assert.ok(other);
    const socketOfHelper = readlinkSync(`/proc/${child.pid}/fd/3`);
    assert.match(socketOfHelper, /^socket:/);
    const { pid } = other;
    const openFiles = openFilesOf(pid);
    assert.ok(openFiles.length > 2 && !openFiles.includes(socketOfHelper), openFiles.join(", "));
    t.after(() => endProcess(other, 0, never));
    client.close();
    assert.deepEqual(await ended, { code: 0, stderr: "" });
    assert.ok(isAlive(other));
  },
);

test("a helper that is killed fails the calls under way, and says so to hearthd", async (t) => {
  using place = new HelperPlace();
  const { child, socket, ended } = startHelper(t, place.settings());
  const client = new PortClient(socket);
  await client.limitations();
  const call = client.runTool(shell("sleep 1000"), never);
  const refused = assert.rejects(call, { code: "host.helper_gone", hint: /VMs keep running/ });
  child.kill("SIGKILL");
  await Promise.all([refused, ended]);
  assert.equal((await client.gone).code, "host.helper_gone");
});

test("a helper ends on SIGTERM", async (t) => {
  using place = new HelperPlace();
  const { child, socket, ended } = startHelper(t, place.settings());
  const client = new PortClient(socket);
  await client.limitations();
  child.kill("SIGTERM");
  assert.equal((await ended).code, 0);
  await client.gone;
});

test("a helper with settings that are wrong says which, and does nothing", async (t) => {
  using place = new HelperPlace();
  const settings = place.settings();
  for (const [wrong, field] of [
    [{ ...settings, isRoot: true }, "unrecognized_keys"],
    [{ ...settings, owner: { uid: -1, gid: 0 } }, "owner.uid"],
    [{ ...settings, roots: { ...settings.roots, vms: "vms" } }, "roots.vms"],
  ] as const) {
    const { code, stderr } = await startHelper(t, JSON.stringify(wrong)).ended;
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`settings of the helper.*${field}`));
  }
});
