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
  for (const text of ["127.0.0.1:8080:80", "0.0.0.0:5353:53/udp", "192.0.2.7:65535:1"])
    assert.equal(formatPublished(parsePublished(text)), text);
});

test("what is no port, no IPv4 address or twice the same port is refused", () => {
  for (const text of [
    "",
    "80",
    "0:80",
    "80:0",
    "65536:80",
    "80:80/icmp",
    "::1:80:80",
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
});
