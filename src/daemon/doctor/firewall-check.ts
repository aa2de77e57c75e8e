/**
 * Finds firewalls of the host that drop what VMs send. A packet is forwarded only if no table drops it: Hearth's own
 * cannot accept for another one, and Hearth changes no table but its own.
 */
import type { DoctorCheck } from "#api/wire.ts";
import { run } from "#host/run.ts";
import { LINK_PREFIX } from "#model/inside-addresses.ts";

const NFT_MS = 10_000;
const NAME = "firewall";

/** The parts of the listing of nft(8) that tell about forwarding: libnftables-json(5). */
type Entry = {
  readonly chain?: ChainEntry;
  readonly rule?: { readonly family: string; readonly table: string; readonly expr: unknown };
};
type ChainEntry = {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook?: string;
  readonly policy?: string;
};

/** Checks the firewall of this host, whose rules root alone may read. */
export async function checkFirewall(signal: AbortSignal): Promise<DoctorCheck[]> {
  if (process.geteuid?.() !== 0) return [];
  const listed = await run("nft", ["-j", "list", "ruleset"], { timeoutMs: NFT_MS, signal });
  if (listed.ok) return [firewallOf(listed.stdout)];
  const fix = "Run hearthd where it may use nftables: nft list ruleset has to work.";
  return [{ name: NAME, verdict: "warn", found: listed.error.message, fix }];
}

/**
 * Finds chains that drop forwarded packets by default, and have no rule about VMs.
 * @param listing the output of `nft -j list ruleset`
 */
export function firewallOf(listing: string): DoctorCheck {
  const { nftables } = JSON.parse(listing) as { readonly nftables: readonly Entry[] };
  const aboutVms = new Set(
    nftables.flatMap(({ rule }) =>
      rule !== undefined && JSON.stringify(rule.expr).includes(`"${LINK_PREFIX}`) ? [tableOf(rule)] : [],
    ),
  );
  const chains = nftables.flatMap(({ chain }) => chain ?? []);
  const dropping = chains.find(
    (chain) =>
      chain.hook === "forward" &&
      chain.policy === "drop" &&
      (chain.family === "ip" || chain.family === "inet") &&
      !aboutVms.has(tableOf(chain)),
  );
  if (dropping === undefined)
    return { name: NAME, verdict: "pass", found: "no chain drops all that is forwarded" };
  const { family, table, name } = dropping;
  const has = (owner: string): boolean => chains.some((chain) => chain.name.startsWith(owner));
  return {
    name: NAME,
    verdict: "warn",
    found: `chain ${name} of table ${family} ${table} drops what VMs send`,
    fix: fixFor(has, dropping),
  };
}

function fixFor(has: (owner: string) => boolean, { family, table, name }: ChainEntry): string {
  const links = `${LINK_PREFIX}+`;
  if (has("ufw-")) return `ufw route allow in on ${links}; ufw route allow out on ${links}`;
  if (has("DOCKER-USER"))
    return `iptables -I DOCKER-USER -i ${links} -j ACCEPT; iptables -I DOCKER-USER -o ${links} -j ACCEPT`;
  const insert = (way: string): string =>
    `nft insert rule ${family} ${table} ${name} ${way} '"${LINK_PREFIX}*"' accept`;
  return `${insert("iifname")}; ${insert("oifname")}`;
}

function tableOf({ family, table }: { readonly family: string; readonly table: string }): string {
  return `${family} ${table}`;
}
