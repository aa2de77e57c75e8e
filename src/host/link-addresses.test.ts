import assert from "node:assert/strict";
import { test } from "node:test";
import { listLinkAddresses } from "#host/link-addresses.ts";

test("addresses with a route of their own are listed by their interface, and networks are not", () => {
  const text = [
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT",
    "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0",
    "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0",
    "hvma\tB02D12C6\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0",
    "hvma\tF51D13C6\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0",
    "",
  ].join("\n");
  assert.deepEqual([...listLinkAddresses(text)], [["hvma", ["198.18.45.176", "198.19.29.245"]]]);
});
