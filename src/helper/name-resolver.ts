/**
 * Starts and asks the resolver of a VM's network namespace, which answers names that the policy allows, and lets the
 * guest reach their addresses. It runs on without the helper; see agent/internal/resolver. What it says is not trusted.
 */
import { rmSync } from "node:fs";
import { connect } from "node:net";
import * as z from "zod/mini";
import { HearthError } from "#base/error.ts";
import { TOOL_MS } from "#helper/netns-program.ts";
import { newLinksHave6 } from "#host/ipv6-settings.ts";
import { parseJson, readLines } from "#helper/message-lines.ts";
import { nameSet } from "#helper/policy-program.ts";
import type { LearnedAddress } from "#helper/policy-program.ts";
import { runOrThrow } from "#host/run.ts";
import { INSIDE } from "#model/inside-addresses.ts";
import { isAddress } from "#model/ip-address.ts";
import { checkOf, domainOf, learnedDomainOf, SPECIAL_NETWORKS } from "#model/network-policy.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";

const DNS_PORT = 53;
/** More than all addresses of a policy's domains. */
const ANSWER_MAX_BYTES = 16 * 1024 * 1024;
const SECONDS_MAX = 86_400;
const ERROR_MAX_CHARS = 200;
/** The time for the resolver's processes to end. */
const END_MS = 1_000;

const learnedAddress = z.strictObject({
  domain: z.string(),
  address: z.string().check(z.refine(isAddress)),
  seconds: z.int().check(z.positive(), z.maximum(SECONDS_MAX)),
});
const response = z.strictObject({
  error: z.optional(z.string()),
  learned: z.optional(z.array(learnedAddress)),
});

/** The place of a resolver. */
export type ResolverPlace = {
  /** The file of the network namespace. */
  readonly namespace: string;
  /** The directory of the host's private networks. */
  readonly networks: string;
  /** The host's end of the VM's network, which is its name there. */
  readonly link: string;
};

/** The resolver of one namespace. Nothing runs before `start`. */
export class NameResolver {
  readonly #program: string;
  readonly #place: ResolverPlace;
  readonly #socket: string;

  /**
   * @param program the absolute path of hearth-resolver
   * @param socket the path of its control socket, in a directory that only root may write to
   */
  constructor(program: string, place: ResolverPlace, socket: string) {
    this.#program = program;
    this.#place = place;
    this.#socket = socket;
  }

  /** Starts it as the uid of the VM. It answers nothing before `configure`. @throws HearthError `host.tool_failed` */
  async start(uid: number, signal: AbortSignal): Promise<void> {
    rmSync(this.#socket, { force: true });
    const { namespace, networks, link } = this.#place;
    // Connections over IPv6 are redirected to it, too.
    const address6 = newLinksHave6() ? ["--address6", INSIDE.gateway6] : [];
    const options = ["--address", INSIDE.gateway, ...address6, "--control", this.#socket, "--uid", `${uid}`];
    const ofVm = ["--networks", networks, "--link", link];
    const argv = [`--net=${namespace}`, this.#program, "start", ...options, ...ofVm];
    await runOrThrow("nsenter", argv, { timeoutMs: TOOL_MS, signal });
  }

  /** Tells whether it runs. */
  async runs(signal: AbortSignal): Promise<boolean> {
    try {
      await this.learned(signal);
      return true;
    } catch (error) {
      if (isGone(error)) return false;
      throw error;
    }
  }

  /** Returns the addresses that the guest may reach because of names. */
  async learned(signal: AbortSignal): Promise<readonly LearnedAddress[]> {
    return (await this.#ask({ op: "learned" }, TOOL_MS, signal)).learned ?? [];
  }

  /**
   * Makes it answer as the policy says, whose sets exist.
   * @param ipv6 whether the guest can reach IPv6 addresses, which are in no answer otherwise
   */
  async configure(
    policy: NetworkPolicy,
    upstream: string | undefined,
    ipv6: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    const rules = policy.rules.flatMap((rule, index) => {
      const domain = learnedDomainOf(rule);
      if (domain === undefined) return [];
      const check = checkOf(rule);
      const sets = { set: nameSet(index, "ipv4"), set6: nameSet(index, "ipv6") };
      return [{ domain, ...sets, ...(check !== undefined && { check, ...rule.ports }) }];
    });
    const config = {
      ...(upstream !== undefined && { upstream: `${upstream}:${DNS_PORT}` }),
      rules,
      ipv6,
      // The rules of a policy without domains are about addresses, and not about names.
      refuseOthers: policy.default === "deny" && policy.rules.some((rule) => domainOf(rule) !== undefined),
      guest: INSIDE.guest,
      never: SPECIAL_NETWORKS,
    };
    await this.#ask({ op: "configure", config }, TOOL_MS, signal);
  }

  /** Ends it. What does not answer is killed with the uid of the VM. Idempotent. */
  async end(signal: AbortSignal): Promise<void> {
    try {
      await this.#ask({ op: "end" }, END_MS, signal);
    } catch (error) {
      if (!(error instanceof HearthError) || error.code !== "host.tool_failed") throw error;
    }
    rmSync(this.#socket, { force: true });
  }

  /** Asks it one thing. @throws HearthError `host.tool_failed` */
  async #ask(request: unknown, timeoutMs: number, signal: AbortSignal): Promise<z.infer<typeof response>> {
    signal.throwIfAborted();
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const socket = connect({ path: this.#socket, signal: inTime });
    let said: unknown;
    try {
      socket.end(`${JSON.stringify(request)}\n`);
      said = parseJson((await readLines(socket, ANSWER_MAX_BYTES).next()).value ?? "");
    } catch (cause) {
      signal.throwIfAborted();
      throw new HearthError("host.tool_failed", "The resolver of the VM does not answer.", { cause });
    } finally {
      socket.destroy();
    }
    const { success, data } = response.safeParse(said);
    if (success && data.error === undefined) return data;
    const reason = data?.error?.slice(0, ERROR_MAX_CHARS) ?? "its answer is malformed";
    throw new HearthError(
      "host.tool_failed",
      `The resolver of the VM has failed: ${JSON.stringify(reason)}.`,
    );
  }
}

/** Tells whether an error says that nothing listens. */
function isGone(error: unknown): boolean {
  const { cause } = error as { cause?: NodeJS.ErrnoException };
  return cause?.code === "ENOENT" || cause?.code === "ECONNREFUSED";
}
