/** Gives the host of a network scenario an uplink with IPv6. The host is the network namespace of this process. */
import { readFileSync, writeFileSync } from "node:fs";
import { runOrThrow } from "#host/run.ts";
import { ipv6Frame, ROUTER_ADVERTISEMENT, sendProgram } from "#testing/ipv6-frame.ts";

export const CONF6 = "/proc/sys/net/ipv6/conf";

/** The settings of IPv6 that a first network changes. */
export const SETTINGS6 = ["all", "default", "lo", "wan"].flatMap((name) => [
  `${CONF6}/${name}/forwarding`,
  `${CONF6}/${name}/accept_ra`,
]);

function tell(program: string, ...args: string[]): Promise<string> {
  return runOrThrow(program, args, { timeoutMs: 10_000, signal: new AbortController().signal });
}

/** Returns a setting of IPv6. */
export function read6(setting: string): string {
  return readFileSync(`${CONF6}/${setting}`, "utf8").trim();
}

/** Makes a link with IPv6, and a default route. */
export async function route6(): Promise<void> {
  await tell("ip", "link", "add", "wan", "type", "bridge");
  writeFileSync(`${CONF6}/wan/accept_dad`, "0");
  await tell("ip", "link", "set", "wan", "up");
  await tell("ip", "addr", "add", "2001:db8::2/64", "dev", "wan", "nodad");
  await tell("ip", "route", "add", "default", "via", "2001:db8::1");
}

/** Makes a link to an Internet of IPv6, and returns a function that advertises a router on it, until this host knows it. */
export async function uplink6(): Promise<() => Promise<void>> {
  await tell("ip", "link", "add", "wan", "type", "veth", "peer", "name", "isp");
  writeFileSync(`${CONF6}/isp/disable_ipv6`, "1");
  writeFileSync(`${CONF6}/wan/accept_dad`, "0");
  for (const link of ["isp", "wan"]) await tell("ip", "link", "set", link, "up");
  const send = sendProgram(
    ipv6Frame({
      to: "33:33:00:00:00:01",
      from: "02:00:00:00:00:77",
      source: "fe80::77",
      target: "ff02::1",
      hopLimit: 255,
      payload: ROUTER_ADVERTISEMENT,
    }),
  );
  const [{ ifindex }] = JSON.parse(await tell("ip", "-j", "link", "show", "isp")) as [{ ifindex: number }];
  return async () => {
    while (!(await hasAdvertised())) await tell("perl", "-e", send, String(ifindex));
  };
}

/** Tells whether the host has the default route of the advertised router. */
export async function hasAdvertised(): Promise<boolean> {
  return /^default via fe80::77 dev wan/m.test(await tell("ip", "-6", "route"));
}
