import assert from "node:assert/strict";
import { test } from "node:test";
import type { GuestIdentity } from "#guest/guest-identity.ts";
import { configureGuest } from "#daemon/vm/guest-clock.ts";

const EPOCH_MS = 1_700_000_000_000;
const IDENTITY = {
  hostname: "web",
  unixTimeMs: EPOCH_MS,
  entropy: Buffer.alloc(0),
  env: {},
  command: [],
  mounts: [],
};

/**
 * Returns a guest whose answers take so long, one after the other, and the times that it is told, by the host's clock.
 */
async function toldBy(tookMs: readonly number[]): Promise<number[]> {
  let uptimeMs = 0;
  const left = [...tookMs];
  const answer = (): void => void (uptimeMs += left.shift() ?? 0);
  const told: number[] = [];
  const host = { now: () => EPOCH_MS + uptimeMs, uptimeMs: () => uptimeMs };
  const guest = {
    configure: async ({ unixTimeMs = 0 }: GuestIdentity) => {
      told.push(unixTimeMs - EPOCH_MS);
      answer();
      return { warnings: [], initFollows: false };
    },
    thaw: async (unixTimeMs: number) => {
      told.push(unixTimeMs - EPOCH_MS);
      answer();
      return [];
    },
  };
  await configureGuest(host, guest, IDENTITY, new AbortController().signal);
  return told;
}

test("a guest that answers at once is told the time once", async () => {
  assert.deepEqual(await toldBy([100]), [0]);
});

test("a guest that answers late is told the time again, until it answers at once", async () => {
  assert.deepEqual(await toldBy([900, 30]), [0, 900]);
  assert.deepEqual(await toldBy([900, 500, 30]), [0, 900, 1_400]);
});

test("a guest that never answers at once is told the time four times at most", async () => {
  assert.deepEqual(await toldBy([200, 200, 200, 200, 200, 200]), [0, 200, 400, 600]);
});
