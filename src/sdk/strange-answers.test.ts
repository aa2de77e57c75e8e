/** Tests answers that no hearthd of this version gives: cut off, malformed, or of a newer version. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { Hearth } from "#sdk/hearth.ts";
import { BreakableRelay } from "#testing/breakable-relay.ts";
import { serveDaemon } from "#testing/served-daemon.ts";

/** Starts a hearthd with a running VM, behind a relay that passes everything on at first. */
async function setUp(t: TestContext) {
  const served = await serveDaemon(t);
  await served.run("web");
  const relay = await BreakableRelay.start(t, served);
  const hearth = await Hearth.connect({ socketPath: relay.socketPath });
  assert.equal((await hearth.vms.list()).length, 1);
  assert.equal((await hearth.vm("web").exec(["echo", "hi"])).stdout, "hi\n");
  return { relay, hearth };
}

const UPGRADED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

function answer(status: string, body: string): string {
  return `HTTP/1.1 ${status}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

/** Returns a server's short text message. */
function frame(text: string): Buffer {
  return Buffer.concat([Buffer.from(UPGRADED), Buffer.from([0x81, text.length]), Buffer.from(text)]);
}

const READ_LOGS = { hint: /hearth daemon logs/ };

describe("a request whose answer", () => {
  test("is cut off fails with daemon.unreachable", async (t) => {
    const { relay, hearth } = await setUp(t);
    relay.bodyLimit = { bytes: 20, cut: true };
    await assert.rejects(hearth.vms.list(), {
      code: "daemon.unreachable",
      message: /ended its response too early/,
    });
  });

  for (const [what, instead] of [
    ["is no JSON", answer("200 OK", "<html>")],
    ["is JSON, and nothing that the API answers", answer("200 OK", "7")],
    ["is a refusal in no JSON", answer("502 Bad Gateway", "<html>")],
    ["is a refusal without an error", answer("500 Oops", "{}")],
  ] as const)
    test(`${what} fails with an error that says where to look`, async (t) => {
      const { relay, hearth } = await setUp(t);
      relay.instead = instead;
      await assert.rejects(hearth.vms.list(), { code: "internal.bug", ...READ_LOGS });
    });

  test("is no HTTP fails with daemon.unreachable", async (t) => {
    const { relay, hearth } = await setUp(t);
    relay.instead = "220 mail.example ESMTP\r\n";
    await assert.rejects(hearth.vms.list(), { code: "daemon.unreachable", ...READ_LOGS });
  });

  test("is an error of a newer hearthd keeps its message", async (t) => {
    const { relay, hearth } = await setUp(t);
    const error = { code: "vm.enchanted", message: "web is enchanted.", hint: "Kiss it." };
    relay.instead = answer("409 Conflict", JSON.stringify({ error }));
    await assert.rejects(hearth.vms.list(), {
      code: "internal.bug",
      message: error.message,
      hint: error.hint,
    });
  });
});

describe("a command whose connection", () => {
  for (const [what, instead, expected] of [
    ["is refused in no JSON", answer("502 Bad Gateway", "<html>"), { code: "internal.bug", ...READ_LOGS }],
    ["is closed during the handshake", "HTTP/1.1 101", { code: "daemon.unreachable", ...READ_LOGS }],
    ["is closed before the command starts", UPGRADED, { code: "daemon.unreachable", hint: /hearth ls/ }],
    ["says what is no JSON", frame("<html>"), { code: "internal.bug", ...READ_LOGS }],
    ["says what is no message", frame("null"), { code: "internal.bug", ...READ_LOGS }],
    ["says what is no frame", `${UPGRADED}\u0081\u00ff\u00ff`, { code: "daemon.unreachable" }],
  ] as const)
    test(`${what} fails without affecting the rest of the program`, async (t) => {
      const { relay, hearth } = await setUp(t);
      relay.instead = typeof instead === "string" ? Buffer.from(instead, "latin1") : instead;
      await assert.rejects(hearth.vm("web").exec(["echo", "hi"]), expected);
      relay.instead = undefined;
      assert.equal((await hearth.vm("web").exec(["echo", "hi"])).stdout, "hi\n");
    });

  test("gets an unknown message of a newer hearthd continues", async (t) => {
    const { relay, hearth } = await setUp(t);
    const exit = '{"type":"exit","code":7,"timedOut":false}';
    const more = Buffer.concat([Buffer.from([0x81, exit.length]), Buffer.from(exit)]);
    relay.instead = Buffer.concat([frame('{"type":"weather"}'), more]);
    assert.equal((await hearth.vm("web").exec(["echo", "hi"])).exitCode, 7);
  });
});

describe("the events of hearthd", () => {
  test("that are cut off end with daemon.unreachable", async (t) => {
    const { relay, hearth } = await setUp(t);
    relay.bodyLimit = { bytes: 10, cut: true };
    const next = hearth.events().next();
    await assert.rejects(next, { code: "daemon.unreachable", message: /ended its response too early/ });
  });

  test("that are no JSON end with an error that says where to look", async (t) => {
    const { relay, hearth } = await setUp(t);
    relay.instead = answer("200 OK", "data: <html>\n\n");
    await assert.rejects(hearth.events().next(), { code: "internal.bug", ...READ_LOGS });
  });
});
