import assert from "node:assert/strict";
import { test } from "node:test";
import { canonicalIpv6, familyOf, isAddress, isIn } from "#model/ip-address.ts";

test("an IPv6 address has one form, and what is none has none", () => {
  for (const [text, canonical] of [
    ["::", "::"],
    ["2001:DB8:0:0:0:0:0:1", "2001:db8::1"],
    ["2001:db8::0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["64:ff9b::192.0.2.1", "64:ff9b::c000:201"],
  ] as const)
    assert.equal(canonicalIpv6(text), canonical);
  for (const text of ["", "192.0.2.1", "fe80::1%eth0", "[::1]", "::g", "1:2", "::1/128", "::1 accept"])
    assert.equal(canonicalIpv6(text), undefined, text);
});

test("addresses are IPv4, or IPv6 in its one form", () => {
  for (const text of ["192.0.2.1", "2001:db8::1"]) assert.ok(isAddress(text), text);
  for (const text of ["192.0.2.1/32", "192.0.2", "2001:DB8::1", "::1 drop", "name"])
    assert.ok(!isAddress(text), text);
  assert.deepEqual(["0.0.0.0/0", "::/0"].map(familyOf), ["ipv4", "ipv6"]);
});

test("a network contains addresses of its own family only", () => {
  for (const [network, address, isInside] of [
    ["10.0.0.0/8", "10.255.0.1", true],
    ["10.0.0.0/8", "11.0.0.1", false],
    ["0.0.0.0/0", "2001:db8::1", false],
    ["::/0", "2001:db8::1", true],
    ["::/0", "192.0.2.1", false],
    ["2001:db8::/33", "2001:db8:8000::1", false],
    ["2001:db8::1/128", "2001:db8::1", true],
    ["10.0.0.0/8", "::ffff:10.0.0.1", false],
  ] as const)
    assert.equal(isIn(network, address), isInside, `${address} in ${network}`);
});
