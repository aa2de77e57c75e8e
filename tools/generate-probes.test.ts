import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { ALLOWED, DENIED, POLICIES } from "../e2e/probes/probe.ts";
import { PATHS, PROBES } from "../e2e/probes/table.ts";
import { PROBES_DOC, probesDocument } from "./generate-probes.ts";

const page = readFileSync(PROBES_DOC, "utf8");
const [first, second] = PATHS;

function resultIn(text: string, path: string): string {
  return (
    text
      .split("\n")
      .find((line) => line.startsWith(`| ${path} `))
      ?.split("|")[2]
      ?.trim() ?? ""
  );
}

test("docs/network-probes.md has the table of probes; `node tools/generate-probes.ts` writes it", async () => {
  assert.equal(page, await probesDocument(page, []));
});

test("there are at least 80 probes, with one id each, under every policy, and with every verdict", () => {
  const ids = PROBES.map(({ id }) => id);
  assert.ok(ids.length >= 80, `${ids.length} were found`);
  assert.equal(new Set(ids).size, ids.length);
  for (const id of ids) assert.match(id, /^[a-z0-9-]+$/);
  assert.deepEqual(new Set(PROBES.map(({ policy }) => policy)), new Set(Object.keys(POLICIES)));
  const verdicts = new Set(PROBES.flatMap(({ verdict, twin }) => [verdict, twin.verdict] as string[]));
  assert.deepEqual([...verdicts].toSorted(), Object.keys({ ...DENIED, ...ALLOWED }).toSorted());
});

test("every twin differs from its probe, in its packet or its policy", () => {
  for (const { id, policy, packet, twin } of PROBES)
    assert.notEqual(`${policy} ${packet.text}`, `${twin.policy ?? policy} ${twin.packet.text}`, id);
});

test("a run fills the results of its path and leaves the others", async () => {
  const held = Object.fromEntries(PROBES.map(({ id }) => [id, "pass" as const]));
  const { id = "", says = "" } = PROBES[3] ?? {};
  const text = await probesDocument(page, [{ path: first, results: { ...held, [id]: "fail" } }]);
  assert.equal(resultIn(text, first), `1 do not hold: ${says}`);
  assert.equal(resultIn(text, second), resultIn(page, second));
  const again = await probesDocument(text, [{ path: first, results: held }]);
  assert.equal(resultIn(again, first), `all ${PROBES.length} hold`);
});
