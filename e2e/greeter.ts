/** A server in a guest that tells each client its address, and a client for it. */
import type { Bed } from "./bed.ts";

/** Starts the server on port 80 of a guest, and one that only listens on port 81. */
export async function startGreeter(bed: Bed, vm: string): Promise<void> {
  const answer = [
    "use IO::Socket; $t = IO::Socket::INET->new(Listen => 9, LocalPort => 80, ReuseAddr => 1) or die;",
    "$o = IO::Socket::INET->new(Listen => 9, LocalPort => 81, ReuseAddr => 1) or die;",
    'print "ready\\n"; while ($c = $t->accept) { print $c "hello ", $c->peerhost, "\\n"; close $c }',
  ].join(" ");
  await bed.sh(vm, `setsid nohup perl -e '$| = 1; ${answer}' > /tmp/server 2>&1 < /dev/null &`);
  await bed.until(async () => (await bed.sh(vm, "cat /tmp/server")) === "ready\n");
}

/** Returns a command that prints what the server says, or the error of the connection. */
export function greeterClient(address: string, port: number): string[] {
  return ["bash", "-c", greeterScript(address, port)];
}

export function greeterScript(address: string, port: number): string {
  return `timeout 5 bash -c "exec 2>&1; cat < /dev/tcp/${address}/${port}" || true`;
}
