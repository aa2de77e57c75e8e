/** Chooses the mirror of an image: the host's own, because the host's apt reaches it. */
import { existsSync } from "node:fs";
import type { AptSource } from "#host/apt-sources.ts";

const DEFAULT_MIRROR = "http://deb.debian.org/debian";
const DEFAULT_SECURITY_MIRROR = "http://deb.debian.org/debian-security";
const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
/** Suites that prove that a source is Debian's, and not another distribution's or a vendor's. */
const DEBIAN_SUITE =
  /^(?:buster|bullseye|bookworm|trixie|forky|sid|oldstable|stable|testing|unstable)(-updates|-security)?$/;
const CODENAME = /^(?:buster|bullseye|bookworm|trixie|forky|sid)(-updates|-security)?$/;
const UPDATES = /-(updates|security)$/;
const USABLE_URI = /^(?:https?|mirror\+https?):\/\//;

/**
 * Returns lines of sources.list(5) for a suite of Debian: itself, its updates and its security fixes.
 * @param hasFile tells whether a keyring exists
 */
export function planDebianSources(
  host: readonly AptSource[],
  suite: string,
  hasFile: (path: string) => boolean = existsSync,
): string[] {
  const debian = host.filter((source) => source.components.includes("main") && isDebians(source, host));
  const main = choose(debian, suite, false) ?? { uri: DEFAULT_MIRROR, source: undefined };
  const security = choose(debian, suite, true) ?? { uri: DEFAULT_SECURITY_MIRROR, source: main.source };
  return [
    `deb ${options(main.source, suite, hasFile)}${main.uri} ${suite} main`,
    `deb ${options(main.source, suite, hasFile)}${main.uri} ${suite}-updates main`,
    `deb ${options(security.source, suite, hasFile)}${security.uri} ${suite}-security main`,
  ];
}

/** Plans the line of sources.list(5) for the backports of a suite of Debian, from the suite's mirror. */
export function planBackportsSource(
  host: readonly AptSource[],
  suite: string,
  hasFile: (path: string) => boolean = existsSync,
): string {
  const [main = ""] = planDebianSources(host, suite, hasFile);
  return main.replace(` ${suite} `, ` ${suite}-backports `);
}

type Choice = { readonly uri: string; readonly source: AptSource | undefined };

/**
 * Tells whether a source is Debian's. Vendors have suites called `stable`, too: such a name is accepted only with
 * Debian's keys, or if the same mirror has Debian's updates of it, which a vendor does not have.
 */
function isDebians({ suites, uris, signedBy }: AptSource, all: readonly AptSource[]): boolean {
  if (suites.some((name) => CODENAME.test(name))) return true;
  if (signedBy === DEBIAN_KEYRING) return true;
  const beside = all.filter((other) => other.uris.some((uri) => uris.includes(uri)));
  return beside.some((other) => other.suites.some((name) => UPDATES.test(name)));
}

/** Finds a source of this suite, or one of another suite of Debian, whose mirror has this one, too. */
function choose(sources: readonly AptSource[], suite: string, security: boolean): Choice | undefined {
  const wanted = security ? `${suite}-security` : suite;
  const candidates = sources.filter(({ suites }) =>
    suites.some((name) => DEBIAN_SUITE.test(name) && name.endsWith("-security") === security),
  );
  const source = candidates.find(({ suites }) => suites.includes(wanted)) ?? candidates[0];
  const uri = source?.uris.find((name) => USABLE_URI.test(name));
  return source === undefined || uri === undefined ? undefined : { uri: uri.replace(/\/+$/, ""), source };
}

/** A keyring of the host is used for the host's suite; others are signed by Debian's keys. */
function options(source: AptSource | undefined, suite: string, hasFile: (path: string) => boolean): string {
  if (source?.trusted === true) return "[trusted=yes] ";
  const own = source?.signedBy;
  const isOwnSuite =
    source?.suites.some((name) => name.replace(/-(updates|security)$/, "") === suite) ?? false;
  const keyring = own !== undefined && (isOwnSuite || !hasFile(DEBIAN_KEYRING)) ? own : DEBIAN_KEYRING;
  return hasFile(keyring) ? `[signed-by=${keyring}] ` : "";
}
