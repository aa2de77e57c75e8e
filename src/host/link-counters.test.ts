import assert from "node:assert/strict";
import { test } from "node:test";
import { listLinks, readLinkCounters } from "#host/link-counters.ts";

/** The text of /proc/net/dev, as Linux 6.1 prints it. */
const FILE = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1042346    8012    0    0    0     0          0         0  1042346    8012    0    0    0     0       0          0
hvmaaaaaaaaaaaa:     840      12    0    0    0     0          0         0 9876543210    4321    0    0    0     0       0          0
`;

test("interfaces are listed by their names", () => {
  assert.deepEqual(listLinks(FILE), ["lo", "hvmaaaaaaaaaaaa"]);
  assert.ok(listLinks().includes("lo"));
});

test("the counters of an interface are read, also of one whose name is as long as names can be", () => {
  assert.deepEqual(readLinkCounters("hvmaaaaaaaaaaaa", FILE), {
    receivedBytes: 840,
    receivedPackets: 12,
    sentBytes: 9_876_543_210,
    sentPackets: 4321,
  });
  assert.equal(readLinkCounters("hvm", FILE), undefined, "no part of a name");
  assert.ok(readLinkCounters("lo"), "this host has a loopback");
});
