import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { ContractResults } from "#testing/contract-record.ts";
import { DRIVER_PROMISES } from "#testing/driver-contract.ts";
import { DRIVERS_DOC, driversDocument, rowTitles } from "./generate-drivers.ts";

const page = readFileSync(DRIVERS_DOC, "utf8");
const [first = "", second = "", third = ""] = DRIVER_PROMISES;

function ran(results: ContractResults["results"], suite = "QEMU"): ContractResults {
  return { suite, driver: "qemu", version: "9.8.7", accel: "kvm", host: "lab", results };
}

/** The cells of a row, by the columns' names. */
function row(text: string, title: string): Readonly<Record<string, string>> {
  const cells = (start: string): string[] => {
    const line = text.split("\n").find((one) => one.startsWith(`| ${start} `)) ?? "";
    return line.split("|").map((cell) => cell.trim());
  };
  const names = cells("promise");
  return Object.fromEntries(cells(title).map((cell, index) => [names[index] ?? "", cell]));
}

test("docs/drivers.md lists every promise of the driver contract, in its order", () => {
  assert.deepEqual(rowTitles(page, "contract").slice(1), DRIVER_PROMISES);
});

test("docs/drivers.md says what the drivers offer; `node tools/generate-drivers.ts` writes it", async () => {
  assert.equal(page, await driversDocument(page, []));
});

test("a run fills its column and leaves the others; what it did not get to was not run", async () => {
  const before = row(page, first);
  const text = await driversDocument(page, [ran({ [first]: "pass", [second]: "skip" })]);
  assert.deepEqual(row(text, first), { ...before, "qemu, KVM, lab": "yes" });
  assert.equal(row(text, second)["qemu, KVM, lab"], "–");
  assert.equal(row(text, third)["qemu, KVM, lab"], "not run");
  assert.equal(row(text, "version of the VMM")["qemu, KVM, lab"], "9.8.7");
});

test("of two runs in one place the worse counts, and the fake driver is no column", async () => {
  const fake: ContractResults = { ...ran({ [first]: "pass" }), driver: "fake" };
  const jailed = ran({ [first]: "fail", [second]: "pass" }, "QEMU in its jail");
  const text = await driversDocument(page, [ran({ [first]: "pass", [second]: "skip" }), jailed, fake]);
  assert.equal(row(text, first)["qemu, KVM, lab"], "**no**");
  assert.equal(row(text, second)["qemu, KVM, lab"], "yes");
  assert.doesNotMatch(text, /\| fake/);
});

test("a run in a place that has no column yet makes one", async () => {
  const text = await driversDocument(page, [{ ...ran({ [first]: "pass" }), host: "host" }]);
  assert.equal(row(text, first)["qemu, KVM, host"], "yes");
});
