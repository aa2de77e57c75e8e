import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { agentError } from "#guest/agent-error.ts";

const { signal } = new AbortController();

test("R8: an answer that broke off is a connection that is gone, and nobody's invalid input", () => {
  const thrown = new ConnectError("protocol error: missing EndStreamResponse", Code.InvalidArgument);
  assert.equal(agentError(thrown, undefined, signal).code, "agent.unreachable");
});

test("what the agent calls invalid input is that, whatever it says", () => {
  const metadata = { "hearth-code": "input.invalid" };
  const thrown = new ConnectError("missing EndStreamResponse in argv", Code.InvalidArgument, metadata);
  assert.equal(agentError(thrown, undefined, signal).code, "input.invalid");
});
