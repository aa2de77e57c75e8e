import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError } from "#base/error.ts";
import type { Guest } from "#daemon/host.ts";
import { testNetwork } from "#daemon/vm/test-network.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";
import type { VmRecord } from "#model/vm.ts";

const { signal: never } = new AbortController();
const POLICY: NetworkPolicy = { default: "deny", rules: [{ action: "allow", to: "192.0.2.0/24" }] };

/** A guest whose resolver prints this, without end if `endless`, and in which one address accepts connections. */
function guestThat(prints: string, endless = false) {
  const guest = {
    printed: 0,
    async *exec() {
      yield { type: "started", pid: 1 };
      do {
        guest.printed += prints.length;
        yield { type: "stdout", bytes: Buffer.from(prints) };
      } while (endless);
      yield { type: "exited", code: 0, timedOut: false };
    },
    async *dial({ host }: { host: string }) {
      if (host !== "192.0.2.7") throw new HearthError("agent.failed", "no route to host");
      yield new Uint8Array();
    },
  };
  return guest;
}

function ask(host: string, guest: object = guestThat(""), network = "nat") {
  const vm = { name: "web", spec: { network, policy: POLICY } } as unknown as VmRecord;
  return testNetwork(vm, guest as Guest, { host, port: 80 }, never);
}

test("the answer has what decides, and whether the guest can connect", async () => {
  assert.deepEqual(await ask("192.0.2.7"), {
    address: "192.0.2.7",
    action: "allow",
    by: "rule",
    rule: 0,
    answered: true,
    error: undefined,
  });
  for (const [host, by] of [
    ["198.51.100.7", "default"],
    ["10.0.0.1", "special"],
    ["198.18.3.4", "vm"],
    ["192.0.0.1", "host"],
    ["fd59:6db4:8e91::1", "host"],
    ["fd59:6db4:8e91:1::c612:304", "vm"],
    ["2001:db8::7", "default"],
    ["fd00:ec2::254", "special"],
  ] as const) {
    const { action, by: decided, answered, error } = await ask(host);
    assert.deepEqual([action, decided, answered], ["deny", by, false], host);
    assert.match(error ?? "", /no route to host/);
  }
});

test("a name is resolved by the guest, whose output is not trusted", async () => {
  const { address, by } = await ask("name.example", guestThat("192.0.2.7 STREAM name.example\n"));
  assert.deepEqual([address, by], ["192.0.2.7", "rule"]);
  const endless = guestThat("x".repeat(1_000), true);
  await assert.rejects(ask("name.example", endless), {
    code: "input.invalid",
    message: /finds no address/,
  });
  assert.ok(endless.printed < 10_000, "no more is read than an address takes");
});

test("the guest itself, what is no host, and a VM without a policy are refused", async () => {
  for (const host of ["127.0.0.1", "192.0.0.2", "::1", "fd59:6db4:8e91::2"])
    await assert.rejects(ask(host), { code: "input.invalid", message: /the guest itself/ });
  for (const host of ["-x", "a b", "$(id)", "2001:db8::1%eth0", "[2001:db8::1]"])
    await assert.rejects(ask(host), { code: "input.invalid" });
  await assert.rejects(ask("192.0.2.7", guestThat(""), "none"), { message: /web has no network policy/ });
});
