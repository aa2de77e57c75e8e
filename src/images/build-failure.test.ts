import assert from "node:assert/strict";
import { test } from "node:test";
import { HearthError, errorChain, toError } from "#base/error.ts";
import { describeBuildFailure } from "#images/build-failure.ts";

const failed = new HearthError(
  "host.tool_failed",
  "`setpriv --pdeathsig KILL -- unshare --pid -- mmdebstrap --mode=root bookworm` failed with 25",
);

test("a build's failure shows the tool's stderr tail, and what to do", () => {
  const stderr =
    "I: running apt-get update...\nErr:1 http://m\nE: Failed to fetch http://m  Could not connect\n";
  const error = describeBuildFailure("debian:bookworm", failed, stderr);
  assert.equal(error.code, "image.build_failed");
  assert.match(error.hint ?? "", /^Check the network/);
  assert.equal(
    errorChain(toError(error)),
    "Cannot build the image debian:bookworm: `mmdebstrap` failed with 25: " +
      "Err:1 http://m\nE: Failed to fetch http://m  Could not connect",
  );
  const unsigned = "E: The following signatures couldn't be verified: NO_PUBKEY 6ED0E7B82643E131";
  assert.match(describeBuildFailure("debian", failed, unsigned).hint ?? "", /debian-archive-keyring/);
});

test("a full disk, a read-only cache and a missing tool have their own codes", () => {
  const code = (stderr: string, error = failed): string => describeBuildFailure("debian", error, stderr).code;
  assert.equal(code("tar: ./usr: Cannot write: No space left on device"), "host.disk_full");
  assert.equal(code("cannot create /x: Read-only file system"), "host.read_only");
  assert.equal(code("", new HearthError("host.tool_missing", "`xz` is not installed.")), "host.tool_missing");
});
