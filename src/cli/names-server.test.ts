import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import type { Socket } from "node:dgram";
import { once } from "node:events";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { decode, encode } from "dns-packet";
import type { Packet } from "dns-packet";
import { serveNames } from "#cli/names-server.ts";
import type { FindAddresses } from "#cli/names-server.ts";
import { CliRun } from "#testing/cli-run.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

const FOUND: FindAddresses = async (vm) => {
  if (vm === "broken") throw new Error("hearthd does not answer");
  return { web: ["198.18.3.4"], suspended: [] }[vm];
};

function unexpected(error: unknown): void {
  throw error;
}

/** Starts a server. Returns what sends a message to it, and what comes back. */
async function serving(t: TestContext, find: FindAddresses, onFailure = unexpected) {
  const end = new AbortController();
  const port = await serveNames({ address: "127.0.0.1", port: 0 }, find, onFailure, end.signal);
  const client: Socket = createSocket("udp4");
  t.after(() => {
    client.close();
    end.abort();
  });
  const send = (message: Uint8Array): void => client.send(message, port, "127.0.0.1");
  const ask = async (name: string, type: "A" | "AAAA" | "TXT"): Promise<Packet> => {
    send(encode({ type: "query", id: 7, flags: 1 << 8, questions: [{ name, type }] }));
    const [answer] = (await once(client, "message")) as [Buffer];
    return decode(answer);
  };
  return { send, ask, port };
}

test("the name of a VM has the address that the host reaches it at, and no other records", async (t) => {
  const { ask } = await serving(t, FOUND);
  const found = await ask("Web.Hearth", "A");
  assert.equal(found.id, 7);
  assert.deepEqual(
    found.answers?.map((record) => [
      record.name,
      "ttl" in record && record.ttl,
      "data" in record && record.data,
    ]),
    [["Web.Hearth", 5, "198.18.3.4"]],
  );
  for (const [name, type] of [
    ["web.hearth", "AAAA"],
    ["web.hearth", "TXT"],
    ["suspended.hearth", "A"],
  ] as const) {
    const { rcode, answers } = (await ask(name, type)) as Packet & { rcode: string };
    assert.deepEqual([rcode, answers], ["NOERROR", []], name);
  }
});

test("a name of no VM does not exist, and names outside of hearth are refused", async (t) => {
  const { ask } = await serving(t, FOUND);
  const codes: Record<string, string> = {};
  for (const name of ["gone.hearth", "hearth", "a.web.hearth", "web.hearth.example", "xhearth", "example"])
    codes[name] = ((await ask(name, "A")) as Packet & { rcode: string }).rcode;
  assert.deepEqual(codes, {
    "gone.hearth": "NXDOMAIN",
    hearth: "NXDOMAIN",
    "a.web.hearth": "NXDOMAIN",
    "web.hearth.example": "REFUSED",
    xhearth: "REFUSED",
    example: "REFUSED",
  });
});

test("what is no query gets no answer, and an error of hearthd is the server's failure", async (t) => {
  const failures: unknown[] = [];
  const { send, ask } = await serving(t, FOUND, (error) => failures.push(error));
  for (let size = 0; size < 64; size++) send(Buffer.alloc(size, size * 37));
  send(encode({ type: "response", id: 9, questions: [{ name: "web.hearth", type: "A" }] }));
  const { id, rcode } = (await ask("broken.hearth", "A")) as Packet & { rcode: string };
  assert.deepEqual([id, rcode], [7, "SERVFAIL"], "the first answer is to the first query");
  assert.match(String(failures.at(-1)), /hearthd does not answer/);
});

test("hearth network dns says how to use it, and refuses a port that a program has", async (t) => {
  const served = await serveDaemon(t);
  const run = new CliRun(served, ["network", "dns", "--port", "0"]);
  t.after(async () => {
    run.signal("SIGINT");
    await run.code;
  });
  while (!run.stdout.includes("--port 53")) await once(run.stdoutStream, "data");
  const [, port = ""] = /at 127\.0\.0\.1 port (\d+)/.exec(run.stdout) ?? [];
  assert.match(run.stdout, new RegExp(`DNS=127\\.0\\.0\\.1:${port}\\n +Domains=~hearth`));
  const second = new CliRun(served, ["network", "dns", "--port", port]);
  assert.equal(await second.code, 1);
  assert.match(second.stderr, /a program has this port/);
  const wrong = new CliRun(served, ["network", "dns", "--port", "65536"]);
  assert.equal(await wrong.code, 2);
  assert.match(wrong.stderr, /port: "65536" is not a port/);
});
