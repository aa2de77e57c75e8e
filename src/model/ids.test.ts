import assert from "node:assert/strict";
import { test } from "node:test";
import { parseOperationId, parseVmId, parseVmName } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { vmNameFrom } from "#model/vm-names.ts";

for (const name of ["a", "web-1", "0", "123", "a".repeat(63), "a--b"]) {
  test(`${name.slice(0, 20)} is a VM name`, () => assert.equal(parseVmName(name), name));
}

const BAD = [
  "",
  " ",
  "web ",
  "we\nb",
  "we\tb",
  "a.b",
  "a/b",
  "../x",
  "a:b",
  "a=b",
  "'a'",
  '"',
  "a\0b",
  "ä",
  "MyVM",
  "-a",
  "a-",
  "a".repeat(64),
  "a".repeat(65_536),
];
for (const name of BAD) {
  test(`${JSON.stringify(name).slice(0, 30)} is refused with the rule, and never normalised`, () => {
    assert.throws(
      () => parseVmName(name),
      (error: Error & { code?: string; hint?: string }) => {
        assert.equal(error.code, "input.invalid");
        assert.match(error.hint ?? "", /1 to 63 of a-z/);
        assert.ok(error.message.length < 500, "a long value is not repeated in full");
        // eslint-disable-next-line no-control-regex -- the test proves that there are none
        assert.doesNotMatch(error.message, /[\u0000-\u001f]/, "no control character reaches a terminal");
        return true;
      },
    );
  });
}

test("ids and image names take nothing that could leave a directory", () => {
  for (const text of [
    "../x",
    "/etc",
    "vm-../../etc",
    "vm-aaaaaaaaaaaa/..",
    "vm-AAAAAAAAAAAA",
    "vm-aaaaaaaaaaa1",
  ]) {
    assert.throws(() => parseVmId(text), { code: "input.invalid" });
  }
  for (const text of [
    "../x",
    "/debian",
    "debian:",
    ":x",
    "debian:../x",
    "Debian",
    "debian::x",
    "a".repeat(300),
  ]) {
    assert.throws(() => parseImageRef(text), { code: "input.invalid" });
  }
  for (const text of ["op-1", "op-00000000000g", "x"])
    assert.throws(() => parseOperationId(text), { code: "input.invalid" });
  for (const text of ["debian", "debian:bookworm", "debian-systemd:trixie", "team/tool:1.2"])
    assert.equal(parseImageRef(text), text);
});

test("every generated name is valid", () => {
  for (let byte = 0; byte < 256; byte++) parseVmName(vmNameFrom(new Uint8Array([byte, 255 - byte, byte, 0])));
});
