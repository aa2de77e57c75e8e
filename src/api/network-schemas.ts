/** The network of a VM on the wire. */
import { z } from "@hono/zod-openapi";
import { policySchema } from "#api/vm-fields.ts";
import { PUBLISHED_PROTOCOLS } from "#model/published-port.ts";
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
        published: packetCountSchema.openapi({
          description: "Connections to published ports, and of programs of the host",
        }),
        private: packetCountSchema.openapi({ description: "Connections of VMs on private networks" }),
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
      .enum(["rule", "private", "special", "ipv6", "default", "host", "vm"])
      .describe(
        "What decides: a rule; a private network; the special networks; that the policy denies IPv4 networks and names none of IPv6; the default; or Hearth: host and other VMs",
      ),
    rule: z.int().optional().describe("Index of the rule that decides"),
    answered: z.boolean().describe("True if a connection from the guest was accepted"),
    error: z.string().optional().describe("Error of the connection"),
  })
  .openapi("NetworkTest");

export const vmPortsSchema = z
  .object({
    ports: z
      .array(
        z.object({
          port: z.int().describe("Port of the guest"),
          protocol: z.enum(PUBLISHED_PROTOCOLS).describe("tcp: the socket listens; udp: it is bound"),
          address: z.string().describe("Address of the guest; 0.0.0.0 and :: are each of them"),
          program: z.string().optional().describe("Name of a process that has the socket"),
          pid: z.int().optional().describe("PID of that process in the guest; absent if none is known"),
          user: z.string().optional().describe("User of that process, or the number of one without a name"),
          published: z
            .array(
              z.object({
                address: z.string().describe("Address of the host; 0.0.0.0 is each of them"),
                hostPort: z.int().describe("Port of the host"),
              }),
            )
            .readonly()
            .describe("Published ports that lead to it"),
          forward: z.boolean().describe("True if dialing the port, as port-forward does, leads to it"),
        }),
      )
      .describe("Ordered by port, as the guest tells"),
    truncated: z
      .boolean()
      .describe("True if the guest has more sockets or open files than its agent looks at"),
  })
  .openapi("VmPorts");
