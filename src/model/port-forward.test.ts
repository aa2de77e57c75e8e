import assert from "node:assert/strict";
import { test } from "node:test";
import { parseForward } from "#model/port-forward.ts";

test("a port to forward is parsed, with the same port and the loopback as defaults", () => {
  const rows = [
    ["80", "127.0.0.1", 80, 80],
    ["8080:80", "127.0.0.1", 8080, 80],
    ["0:80", "127.0.0.1", 0, 80],
    ["0.0.0.0:8080:80", "0.0.0.0", 8080, 80],
  ] as const;
  for (const [text, address, port, guestPort] of rows)
    assert.deepEqual(parseForward(text), { address, port, guestPort });
});

test("what is no port is refused", () => {
  for (const text of [
    "",
    "0",
    "x",
    "80:0",
    "65536",
    "8080:65536",
    "1.2.3:80:80",
    "127.0.0.1:80",
    "::1:80:80",
    "80/udp",
  ])
    assert.throws(() => parseForward(text), { code: "input.invalid", hint: /8080:80/ }, text);
});
