import assert from "node:assert/strict";
import { test } from "node:test";
import { checkPublished, formatPublished, overlaps, parsePublished } from "#model/published-port.ts";

test("a published port is parsed, and formatted so that it can be parsed again", () => {
  assert.deepEqual(parsePublished("8080:80"), {
    address: "127.0.0.1",
    hostPort: 8080,
    guestPort: 80,
    protocol: "tcp",
  });
  for (const text of [
    "127.0.0.1:8080:80",
    "0.0.0.0:5353:53/udp",
    "192.0.2.7:65535:1",
    "[::]:8080:80",
    "[2001:db8::2]:53:53/udp",
  ])
    assert.equal(formatPublished(parsePublished(text)), text);
  assert.equal(formatPublished(parsePublished("[2001:DB8:0::2]:1:2")), "[2001:db8::2]:1:2");
});

test("a port cannot be published on ::1, nor on addresses of one link, and the error says what to do", () => {
  assert.throws(() => parsePublished("[::1]:8080:80"), { code: "input.invalid", hint: /127\.0\.0\.1/ });
  for (const address of ["fe80::1", "::ffff:127.0.0.1"])
    assert.throws(() => parsePublished(`[${address}]:8080:80`), { code: "input.invalid" }, address);
  const port = { hostPort: 1, guestPort: 1, protocol: "tcp" } as const;
  assert.throws(() => checkPublished([{ ...port, address: "2001:DB8::1" }]), { hint: /short form/ });
});

test("what is no port, no address or twice the same port is refused", () => {
  for (const text of [
    "",
    "80",
    "0:80",
    "80:0",
    "65536:80",
    "80:80/icmp",
    "::1:80:80",
    "[]:80:80",
    "[2001:db8::1%eth0]:80:80",
    "[192.0.2.7]:80:80",
    "1.2.3:80:80",
    "80:80 drop",
  ])
    assert.throws(() => parsePublished(text), { code: "input.invalid", message: /^publish: / }, text);
  const twice = ["8080:80", "0.0.0.0:8080:81"].map(parsePublished);
  assert.throws(() => checkPublished(twice), { message: /0\.0\.0\.0:8080:81 and 127\.0\.0\.1:8080:80/ });
  checkPublished(["8080:80", "8080:80/udp", "8081:80"].map(parsePublished));
});

test("two ports overlap with the same address, or if one is for each address", () => {
  const [one, same, other, every, udp] = [
    "8080:80",
    "127.0.0.1:8080:81",
    "192.0.2.7:8080:80",
    "0.0.0.0:8080:80",
    "8080:80/udp",
  ].map(parsePublished);
  assert.ok(one && same && other && every && udp);
  assert.deepEqual(
    [same, other, every, udp].map((port) => overlaps(one, port)),
    [true, false, true, false],
  );
  const [every6, here6] = ["[::]:8080:80", "[2001:db8::2]:8080:80"].map(parsePublished);
  assert.ok(every6 && here6);
  assert.ok(overlaps(every6, here6));
  for (const port of [one, every]) assert.ok(!overlaps(port, every6), "each family has its own ports");
});
