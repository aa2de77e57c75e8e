/**
 * The network of a VM on a host with KVM, where Firecracker attaches to the TAP device from inside its jailer. What the
 * policy denies, and every way to start, is in e2e/nat.test.ts.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Bed } from "../e2e/bed.ts";
import { HOST, PEERS, PrivateInternet } from "../e2e/private-internet.ts";

describe("a VM with --network nat and Firecracker", () => {
  const internet = new PrivateInternet();
  const config =
    '[defaults]\ndriver = "firecracker"\nnetwork = "nat"\ncpus = 1\nmemory = "256M"\ndisk = "2G"\n';
  const bed = new Bed({ warm: true, config });

  before(async () => {
    await internet.start();
    await internet.startDaemon(bed);
  });
  after(() => internet[Symbol.dispose]());

  const get = async (vm: string, address: string): Promise<string> => {
    const request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && tail -n 1 <&3";
    return bed.sh(vm, `timeout 20 bash -c "exec 3<>/dev/tcp/${address}/80 && ${request}" 2>&1 || true`);
  };

  const assertPolicy = async (vm: string): Promise<void> => {
    assert.equal(await get(vm, PEERS.public), `from ${HOST} to ${PEERS.public}\n`);
    assert.match(await get(vm, PEERS.metadata), /No route to host/);
  };

  test("reaches public addresses and no others after a boot", async () => {
    await bed.ok(["create", "--cold", "--name", "web", "debian"]);
    assert.equal((await bed.vm("web")).driver, "firecracker");
    await assertPolicy("web");
  });

  test("the same after a restore from a template, and leaves nothing", async () => {
    await bed.ok(["template", "build", "debian"]);
    await bed.ok(["create", "--name", "warm", "debian"]);
    assert.ok((await bed.vm("warm")).restoredFrom);
    await assertPolicy("warm");
    await bed.ok(["rm", "-f", "web", "warm"]);
    assert.doesNotMatch(await internet.onHost(["ip", "-o", "link"]), /: hvm/);
  });
});
