import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { SESSION, SESSION_PICTURE } from "./record-session.ts";
import { drawSession, readSession } from "./session-picture.ts";

test("docs/session.svg shows the session's commands; `node tools/record-session.ts` records it anew", () => {
  const shown = readSession(readFileSync(SESSION_PICTURE, "utf8"));
  const typed = SESSION.flatMap((part) => ("type" in part ? [`$ ${part.type}`] : []));
  assert.deepEqual(
    shown.flatMap(({ kind, text }) => (kind === "command" ? [text] : [])),
    typed,
  );
  assert.ok(shown.some(({ kind, text }) => kind === "output" && text.startsWith("Linux ")));
});

test("a line is drawn as it was, when it was there", () => {
  const svg = drawSession("a & b", [
    { atMs: 0, kind: "command", text: "$ echo '<b>' && true" },
    { atMs: 1_234, kind: "output", text: "<b>" },
  ]);
  assert.deepEqual(readSession(svg), [
    { kind: "command", text: "$ echo '<b>' && true" },
    { kind: "output", text: "<b>" },
  ]);
  assert.match(svg, /<title>a &amp; b<\/title>/);
  assert.match(svg, /animation-duration: 1.24s">&lt;b&gt;</);
});

test("a line that does not fit into the picture is refused", () => {
  assert.throws(() => drawSession("", [{ atMs: 0, kind: "output", text: "x".repeat(93) }]), /92 columns/);
});
