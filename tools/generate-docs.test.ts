import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { CLI_DOC, cliReference } from "./generate-docs.ts";

test("docs/cli.md says what the commands are; `node tools/generate-docs.ts` writes it", async () => {
  assert.equal(readFileSync(CLI_DOC, "utf8"), await cliReference());
});
