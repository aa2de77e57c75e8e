/** The fields that several schemas of VMs share. */
import { z } from "@hono/zod-openapi";
import { parsed } from "#api/parsed.ts";
import { toError } from "#base/error.ts";
import { checkEnvName } from "#model/exec-spec.ts";
import { parseVmName } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { LIMITS } from "#model/limits.ts";
import { checkPolicy, POLICY_PROTOCOLS } from "#model/network-policy.ts";
import { checkComment, COMMENT_MAX_CHARS } from "#model/policy-comment.ts";
import { parsePolicyName } from "#model/policy-presets.ts";
import { checkPrivateNetworks } from "#model/private-network.ts";
import { checkPublished, PUBLISHED_PROTOCOLS } from "#model/published-port.ts";
import { checkRateLimit } from "#model/rate-limit.ts";

/** Counts the bytes of all variables, each with its `=` and its NUL. */
function bytesOf(env: Readonly<Record<string, string>>): number {
  return Object.entries(env).reduce(
    (sum, [name, value]) => sum + Buffer.byteLength(name) + Buffer.byteLength(value) + 2,
    0,
  );
}

export const env = z
  .record(parsed(checkEnvName), z.string().max(LIMITS.argumentMaxBytes))
  .refine((all) => bytesOf(all) <= LIMITS.variablesMaxBytes, {
    error: ({ input }) =>
      `takes ${bytesOf(input as Record<string, string>)} bytes; the limit is ${LIMITS.variablesMaxBytes}`,
  });
export const word = z
  .string()
  .max(255)
  .regex(/^[^\0-\x1f]+$/, "must not contain control characters");
export const vmName = parsed(parseVmName);
export const imageRef = parsed(parseImageRef);

export const isolationChoice = z
  .strictObject({
    jail: z
      .boolean()
      .optional()
      .describe("Run the VMM in a jail: its own files, UID and namespaces (default: true)"),
    pidNamespace: z.boolean().optional().describe("Run the VMM in its own PID namespace (default: true)"),
    cgroup: z
      .boolean()
      .optional()
      .describe("Limit the CPU time, memory and tasks of the VMM (default: true)"),
    seccomp: z.boolean().optional().describe("Filter the system calls of the VMM (default: true)"),
  })
  .openapi("IsolationChoice");

const port = z.int().min(1).max(0xffff).describe("1 to 65535; first and last are both included");
export const publishedSchema = z
  .array(
    z.strictObject({
      address: z
        .string()
        .describe(
          "IP address of the host, IPv6 in its short form; 0.0.0.0 is each of IPv4, and :: each of IPv6",
        ),
      hostPort: port.describe("Port of the host"),
      guestPort: port.describe("Port of the guest"),
      protocol: z.enum(PUBLISHED_PROTOCOLS).describe("tcp or udp"),
    }),
  )
  .max(LIMITS.publishedPortsMax)
  .superRefine((ports, context) => {
    try {
      checkPublished(ports);
    } catch (error) {
      context.addIssue({ code: "custom", message: toError(error).message });
    }
  });

export const privateNetworksSchema = z
  .array(z.string().max(63))
  .max(LIMITS.privateNetworksMax)
  .superRefine((names, context) => {
    try {
      checkPrivateNetworks(names);
    } catch (error) {
      context.addIssue({ code: "custom", message: toError(error).message });
    }
  });

export const policySchema = z
  .strictObject({
    default: z.enum(["allow", "deny"]).describe("For public addresses that no rule names"),
    rules: z
      .array(
        z.strictObject({
          action: z.enum(["allow", "deny"]).describe("What happens to a packet that matches"),
          to: z
            .string()
            .max(LIMITS.policyTargetMaxChars)
            .describe(
              "A network, such as 10.20.0.0/16 or 2001:db8::/32; domain:*.debian.org; host; network:NAME, a private network; or vm:NAME, a VM on one",
            ),
          protocol: z
            .enum(POLICY_PROTOCOLS)
            .optional()
            .describe("tls and http: TCP whose connections name a host of the domain (default: all)"),
          ports: z
            .strictObject({ first: port, last: port })
            .optional()
            .describe("For tcp and udp (default: all)"),
          comment: parsed(checkComment)
            .optional()
            .describe(`For people: one line of at most ${COMMENT_MAX_CHARS} characters`),
        }),
      )
      .max(LIMITS.policyRulesMax)
      .readonly()
      .describe("The first that matches decides"),
  })
  .superRefine((policy, context) => {
    try {
      checkPolicy(policy);
    } catch (error) {
      context.addIssue({ code: "custom", message: toError(error).message });
    }
  })
  .openapi("NetworkPolicy", {
    description:
      "What the guest may reach. Private and other special networks, such as a cloud's metadata, are denied unless a rule names them. So is IPv6 by a policy that denies IPv4 networks, names no network of IPv6, and allows by default.",
  });

export const policyName = parsed(parsePolicyName);

const bandwidth = z.int().min(LIMITS.bandwidthMinBytesPerS).max(LIMITS.bandwidthMaxBytesPerS);
const operations = z.int().min(LIMITS.opsMinPerS).max(LIMITS.opsMaxPerS);
export const rateLimitSchema = z
  .strictObject({
    bandwidthBytesPerS: bandwidth.optional().describe("Bytes per second (default: not limited)"),
    bandwidthBurstBytes: bandwidth.optional().describe("Bytes that may pass at once after a rest"),
    opsPerS: operations.optional().describe("Requests per second (default: not limited)"),
    opsBurst: operations.optional().describe("Requests that may pass at once after a rest"),
  })
  .superRefine((limit, context) => {
    try {
      checkRateLimit("limit", limit);
    } catch (error) {
      context.addIssue({ code: "custom", message: toError(error).message });
    }
  })
  .openapi("RateLimit", {
    description:
      "At least one rate is required. A burst needs its rate, and is at least as large as one second of it (default: chosen by the VMM).",
  });
