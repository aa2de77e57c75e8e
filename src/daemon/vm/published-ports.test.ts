import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { checkPortsUnused } from "#daemon/vm/published-ports.ts";
import { useFakeDaemon } from "#testing/fake-daemon.ts";

const ROOTS = { limitations: { uid: undefined, cgroup: undefined, network: undefined, domains: undefined } };
const PORT = { address: "127.0.0.1", guestPort: 80 } as const;

test("a port that another VM publishes is refused at create, also while that VM does not run", async (t) => {
  const { vms, host } = await useFakeDaemon(t);
  const publish = [{ ...PORT, hostPort: 28_080, protocol: "tcp" }] as const;
  const request = { image: "debian", network: "nat" } as const;
  await vms.create({ ...request, name: "one", publish: [...publish] }, false, vms.background());
  const every = [{ ...publish[0], address: "0.0.0.0" }];
  await assert.rejects(vms.create({ ...request, name: "two", publish: every }, false, vms.background()), {
    code: "port.taken",
    message: /one publishes 127\.0\.0\.1:28080:80 already/,
  });
  assert.equal(host.store.findVm("two"), undefined);
  await vms.create(
    { ...request, name: "three", publish: [{ ...publish[0], hostPort: 28_081 }] },
    false,
    vms.background(),
  );
  await vms.remove("one", false, vms.background());
  await vms.create({ ...request, name: "two", publish: every }, false, vms.background());
});

test("a port that a program of the host has is refused, for TCP and for UDP", async () => {
  await using server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const tcp = { ...PORT, hostPort: (server.address() as AddressInfo).port, protocol: "tcp" } as const;
  await assert.rejects(checkPortsUnused(ROOTS, [tcp]), { code: "port.taken", hint: /ss -lpn -t/ });
  await assert.rejects(checkPortsUnused(ROOTS, [{ ...tcp, address: "0.0.0.0" }]), { code: "port.taken" });
  await using socket = createSocket("udp4").bind(0, "127.0.0.1");
  await once(socket, "listening");
  const udp = { ...PORT, hostPort: socket.address().port, protocol: "udp" } as const;
  await assert.rejects(checkPortsUnused(ROOTS, [udp]), { code: "port.taken", hint: /ss -lpn -u/ });
  await server[Symbol.asyncDispose]();
  await checkPortsUnused(ROOTS, [tcp]);
});

test("a port that a program has on an IPv6 address is refused, and the same port of IPv4 is free", async () => {
  await using server = createServer().listen({ port: 0, host: "::", ipv6Only: true });
  await once(server, "listening");
  const { port: hostPort } = server.address() as AddressInfo;
  const tcp = { hostPort, guestPort: 80, protocol: "tcp" } as const;
  await assert.rejects(checkPortsUnused(ROOTS, [{ ...tcp, address: "::" }]), { code: "port.taken" });
  await checkPortsUnused(ROOTS, [{ ...tcp, address: "0.0.0.0" }]);
  await checkPortsUnused(ROOTS, [{ ...tcp, address: "::", protocol: "udp" }]);
});

test("an address that the host does not have is refused", () =>
  assert.rejects(
    checkPortsUnused(ROOTS, [{ ...PORT, address: "192.0.2.99", hostPort: 28_082, protocol: "tcp" }]),
    {
      code: "input.invalid",
      message: /192\.0\.2\.99 is not an address of this host/,
    },
  ));
