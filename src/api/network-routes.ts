/** The routes about the networks of VMs. */
import { createRoute, z } from "@hono/zod-openapi";
import { networkSchema, networkTestSchema, testNetworkSchema, vmPortsSchema } from "#api/network-schemas.ts";
import { answers, body, vmParam } from "#api/route-parts.ts";

export const NETWORK_ROUTES = {
  vmNetwork: createRoute({
    method: "get",
    path: "/v1/vms/{vm}/network",
    operationId: "vmNetwork",
    summary: "Show the network policy of a VM, with the packets that each rule decided",
    request: {
      params: vmParam,
      query: z.object({
        rules: z.enum(["true", "false"]).optional().describe("Include the nftables rules (default: false)"),
      }),
    },
    responses: answers(networkSchema, "The network"),
  }),
  vmPorts: createRoute({
    method: "get",
    path: "/v1/vms/{vm}/ports",
    operationId: "vmPorts",
    summary: "List the ports of a VM on which programs listen, and where they are reached",
    request: { params: vmParam },
    responses: answers(vmPortsSchema, "The ports"),
  }),
  testNetwork: createRoute({
    method: "post",
    path: "/v1/vms/{vm}/network/test",
    operationId: "testNetwork",
    summary: "Tell what the policy decides about a TCP connection, and try it from inside of the guest",
    request: { params: vmParam, ...body(testNetworkSchema) },
    responses: answers(networkTestSchema, "The decision, and the result of the connection"),
  }),
};
