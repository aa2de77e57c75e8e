import assert from "node:assert/strict";
import { test } from "node:test";
import { checkTargets, pastaArguments, publishedProgram } from "#helper/pasta-program.ts";
import type { PublishedPort } from "#model/published-port.ts";

const WEB: PublishedPort = { address: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" };
const NAMES: PublishedPort = { address: "0.0.0.0", hostPort: 5353, guestPort: 53, protocol: "udp" };

/** Returns the values that a flag has in a command. */
function valuesOf(argv: readonly string[], flag: string): string[] {
  return argv.filter((_, index) => argv[index - 1] === flag);
}

test("pasta forwards no port of either side unless it is published, and maps no address to the host", () => {
  const argv = pastaArguments([]);
  for (const flag of ["--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"])
    assert.deepEqual(valuesOf(argv, flag), ["none"], flag);
  assert.ok(argv.includes("--no-map-gw"));
});

test("pasta forwards published ports to the same ones of the namespace, which translates them", () => {
  const argv = pastaArguments([WEB, NAMES, { ...WEB, address: "192.0.2.1", hostPort: 8081 }]);
  assert.deepEqual(valuesOf(argv, "--tcp-ports"), ["127.0.0.1/8080", "192.0.2.1/8081"]);
  assert.deepEqual(valuesOf(argv, "--udp-ports"), ["5353"]);
  const program = publishedProgram([WEB, NAMES]);
  for (const from of ['iifname "uplink"', "ip daddr { 127.0.0.0/8, 198.18.0.2 }"]) {
    assert.ok(program.includes(`${from} tcp dport 8080 dnat ip to 192.0.0.2:80\n`), from);
    assert.ok(program.includes(`${from} udp dport 5353 dnat ip to 192.0.0.2:53\n`), from);
  }
  assert.equal(publishedProgram([]), "");
});

test("a port of the host that leads to two ports of the guest is refused, one at two addresses is not", () => {
  const elsewhere = { ...WEB, address: "192.0.2.1" };
  checkTargets([WEB, elsewhere, { ...WEB, protocol: "udp", guestPort: 81 }]);
  assert.throws(() => pastaArguments([WEB, { ...elsewhere, guestPort: 81 }]), {
    code: "input.invalid",
    message: /port 8080\/tcp of the host leads to the ports 80 and 81/,
  });
});
