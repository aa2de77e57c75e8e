import assert from "node:assert/strict";
import { test } from "node:test";
import { checkMounts, formatVolumeMount, parseMountPath, parseVolumeMount } from "#model/volume.ts";

for (const text of [
  "data:/data",
  "data:/data:ro",
  "a:/mnt/a b/ünï",
  "a-1:/process",
  "a:/running/x",
  "a:/.x/..y",
]) {
  test(`${text} is a volume and a path, and is printed unchanged`, () => {
    assert.equal(formatVolumeMount(parseVolumeMount(text)), text);
  });
}

test("rw is the same as saying nothing", () => {
  assert.deepEqual(parseVolumeMount("a:/b:rw"), { name: "a", path: "/b", readOnly: false });
});

for (const text of [
  "",
  "data",
  ":/data",
  "data:",
  "data:/a:",
  "data:/a:no",
  "data:/a:ro:ro",
  "D:/a",
  "../x:/a",
  "a/b:/a",
]) {
  test(`${JSON.stringify(text)} is refused with an example or the rule`, () => {
    assert.throws(
      () => parseVolumeMount(text),
      (error: Error & { code?: string; hint?: string }) => {
        assert.equal(error.code, "input.invalid");
        assert.ok((error.hint ?? "") !== "");
        return true;
      },
    );
  });
}

const BAD_PATHS = [
  ["data", /not absolute/],
  ["/", /root/],
  ["/a/", /not normalised/],
  ["//a", /not normalised/],
  ["/a/./b", /not normalised/],
  ["/a/../b", /not normalised/],
  ["/proc", /in \/proc/],
  ["/sys/fs/cgroup", /in \/sys/],
  ["/dev/shm", /in \/dev/],
  ["/run/hearth", /in \/run/],
  ["/a\nb", /control character/],
  ["/a\0b", /control character/],
  [`/${"a".repeat(4095)}`, /too long/],
] as const;
for (const [path, reason] of BAD_PATHS) {
  test(`no volume is mounted on ${JSON.stringify(path).slice(0, 30)}`, () => {
    assert.throws(() => parseMountPath(path), { code: "input.invalid", message: reason });
  });
}

test("two volumes on one path are refused, and one volume on two", () => {
  const mounts = (...texts: string[]) => texts.map(parseVolumeMount);
  checkMounts(mounts("a:/a", "b:/a/b"));
  assert.throws(() => checkMounts(mounts("a:/a", "b:/a:ro")), /two volumes have the mount point \/a/);
  assert.throws(() => checkMounts(mounts("a:/a", "a:/b:ro")), /a is given twice/);
});
