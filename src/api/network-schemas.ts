/** The network of a VM on the wire. */
import { z } from "@hono/zod-openapi";
import { policySchema } from "#api/vm-fields.ts";
import { NETWORKS } from "#model/vm-spec.ts";

export const trafficSchema = z
  .object({
    sentBytes: z.int().describe("Bytes that the guest sent, with what its policy denied at the host"),
    sentPackets: z.int().describe("Packets that the guest sent"),
    receivedBytes: z.int().describe("Bytes to the guest"),
    receivedPackets: z.int().describe("Packets to the guest"),
  })
  .openapi("Traffic");

export const packetCountSchema = z
  .object({
    packets: z.int().describe("Packets of both directions"),
    bytes: z.int().describe("Bytes of these packets"),
  })
  .openapi("PacketCount");

export const networkSchema = z
  .object({
    network: z.enum(NETWORKS).describe("Network of the VM"),
    policy: policySchema.optional().openapi({ description: "Network policy; absent without network nat" }),
    counters: z
      .object({
        resolver: packetCountSchema.openapi({ description: "Queries for names, and their answers" }),
        rules: z.array(packetCountSchema).describe("Packets that each rule decided, in their order"),
        special: packetCountSchema.openapi({ description: "Denied packets to special networks" }),
        published: packetCountSchema.openapi({ description: "Connections to published ports" }),
        default: packetCountSchema.openapi({ description: "All other packets" }),
      })
      .optional()
      .describe("Packets since this policy is in force; absent while the VM does not run"),
    nftRules: z.string().optional().describe("nftables rules of the VM's network namespace; only on request"),
  })
  .openapi("VmNetwork");

export const testNetworkSchema = z
  .strictObject({
    host: z.string().min(1).max(253).describe("Name or IP address, as the guest sees it"),
    port: z.int().min(1).max(65535).describe("TCP port"),
  })
  .openapi("TestNetwork");

export const networkTestSchema = z
  .object({
    address: z.string().describe("First address that the guest found for the host"),
    action: z.enum(["allow", "deny"]).describe("What happens to a connection"),
    by: z
      .enum(["rule", "special", "ipv6", "default", "host", "vm"])
      .describe(
        "What decides: a rule; the special networks; that the policy denies IPv4 networks and names none of IPv6; the default; or Hearth: host and other VMs",
      ),
    rule: z.int().optional().describe("Index of the rule that decides"),
    answered: z.boolean().describe("True if a connection from the guest was accepted"),
    error: z.string().optional().describe("Error of the connection"),
  })
  .openapi("NetworkTest");
