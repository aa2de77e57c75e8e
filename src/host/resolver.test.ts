import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { findResolver } from "#host/resolver.ts";

test("the resolver is the first with an IPv4 address that is not on the loopback, and a file may be missing", (t) => {
  const dir = mkdtempSync(join(tmpdir(), "resolver-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = join(dir, "resolv.conf");
  const from = (text: string): string | undefined => {
    writeFileSync(file, text);
    return findResolver([join(dir, "none"), file]);
  };
  assert.equal(from("# nameserver 192.0.2.1\nsearch example\n nameserver\t192.0.2.2\n"), "192.0.2.2");
  assert.equal(from("nameserver 127.0.0.53\nnameserver 2001:db8::1\nnameserver 192.0.2.3 x\n"), "192.0.2.3");
  assert.equal(from("nameserver 127.0.0.53\n"), undefined);
});
