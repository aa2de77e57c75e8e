import assert from "node:assert/strict";
import { test } from "node:test";
import { vmIdFrom } from "#model/ids.ts";
import { planNetwork } from "#network/vm-network.ts";

const ID = vmIdFrom(new Uint8Array(12));

test("a VM without a network has no card, and its VMM an empty network namespace", () => {
  const planned = planNetwork({ network: "none" }, ID);
  assert.deepEqual(planned, { nics: [], namespace: { kind: "own" }, guest: undefined });
});

test("a VM with a network of its own has a TAP device in its namespace, and the same address as every other", () => {
  const { nics, namespace, guest } = planNetwork({ network: "nat" }, ID);
  assert.deepEqual(
    nics.map(({ attach }) => attach),
    [{ kind: "tap", name: "tap0" }],
  );
  assert.deepEqual(namespace, { kind: "join", path: `/run/hearth/netns/${ID}` });
  assert.deepEqual(guest, {
    interface: "eth0",
    addresses: ["192.0.0.2/29"],
    gateway: "192.0.0.1",
    ipv6: { address: "fd59:6db4:8e91::2/126", gateway: "fd59:6db4:8e91::1" },
    nameservers: ["192.0.0.1"],
  });
});

test("a VM's card has the same locally administered address at every start, and another than other VMs' cards", () => {
  const mac = (id: Uint8Array): string => planNetwork({ network: "nat" }, vmIdFrom(id)).nics[0]?.mac ?? "";
  assert.match(mac(new Uint8Array(12)), /^02(?::[0-9a-f]{2}){5}$/);
  assert.equal(mac(new Uint8Array(12)), mac(new Uint8Array(12)));
  assert.notEqual(mac(new Uint8Array(12)), mac(new Uint8Array(12).fill(1)));
});
