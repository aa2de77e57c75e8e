import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { agentError } from "#guest/agent-error.ts";

const { signal } = new AbortController();

test("an answer that broke off is a lost connection, not invalid input", () => {
  const thrown = new ConnectError("protocol error: missing EndStreamResponse", Code.InvalidArgument);
  assert.equal(agentError(thrown, undefined, signal).code, "agent.unreachable");
});

test("what the agent calls invalid input is invalid input, whatever its text", () => {
  const metadata = { "hearth-code": "input.invalid" };
  const thrown = new ConnectError("missing EndStreamResponse in argv", Code.InvalidArgument, metadata);
  assert.equal(agentError(thrown, undefined, signal).code, "input.invalid");
});
