import assert from "node:assert/strict";
import { test } from "node:test";
import { orderPorts, reachOf } from "#model/guest-port.ts";
import type { GuestPort } from "#model/guest-port.ts";
import { parsePublished } from "#model/published-port.ts";

const PUBLISH = ["8080:80", "0.0.0.0:9090:80", "5353:53/udp"].map(parsePublished);

function at(address: string, port: number, protocol: GuestPort["protocol"] = "tcp"): GuestPort {
  return { protocol, address, port };
}

/** Tells how each is reached, such as `8080 9090 forward`. */
function reached(ports: readonly GuestPort[]): string[] {
  return ports.map((one) => {
    const { published, forward } = reachOf(one, ports, PUBLISH);
    return [...published.map(({ hostPort }) => hostPort), ...(forward ? ["forward"] : [])].join(" ");
  });
}

test("published ports lead to the guest's card, and forwarded ones to its loopback", () => {
  assert.deepEqual(
    reached([
      at("0.0.0.0", 80),
      at("192.0.0.2", 80),
      at("127.0.0.1", 80),
      at("127.0.0.53", 80),
      at("172.17.0.1", 80),
      at("::1", 80),
      at("0.0.0.0", 81),
      at("0.0.0.0", 53, "udp"),
      at("127.0.0.1", 53, "udp"),
      at("0.0.0.0", 80, "udp"),
    ]),
    ["8080 9090 forward", "8080 9090", "forward", "", "", "", "forward", "5353", "", ""],
  );
});

test("a socket of every IPv6 address is reached over IPv4, unless another one has every IPv4 address", () => {
  assert.deepEqual(reached([at("::", 80)]), ["8080 9090 forward"]);
  assert.deepEqual(
    reached([at("::", 80), at("0.0.0.0", 81), at("0.0.0.0", 80, "udp")])[0],
    "8080 9090 forward",
  );
  assert.deepEqual(reached([at("::", 80), at("0.0.0.0", 80)]), ["", "8080 9090 forward"]);
});

test("ports are in order, and those that look the same are listed once", () => {
  const ports = [
    at("::", 443),
    at("127.0.0.1", 443),
    at("0.0.0.0", 53, "udp"),
    at("::", 443),
    at("0.0.0.0", 53),
  ];
  assert.deepEqual(orderPorts(ports), [
    at("0.0.0.0", 53),
    at("0.0.0.0", 53, "udp"),
    at("127.0.0.1", 443),
    at("::", 443),
  ]);
});
