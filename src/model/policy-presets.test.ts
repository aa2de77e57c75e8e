import assert from "node:assert/strict";
import { test } from "node:test";
import { decide } from "#model/policy-decision.ts";
import { checkOwnName, namedPolicy, parsePolicyName } from "#model/policy-presets.ts";

const OFFICE = { default: "deny", rules: [{ action: "allow", to: "10.20.0.0/16" }] } as const;

test("internet allows public addresses, open allows private ones too, and none allows nothing", () => {
  const verdicts = (name: string): string[] =>
    ["192.0.2.1", "10.20.0.1"].map(
      (address) => decide(namedPolicy(name, {}), { address, protocol: "tcp", port: 80 }).action,
    );
  assert.deepEqual(verdicts("internet"), ["allow", "deny"]);
  assert.deepEqual(verdicts("open"), ["allow", "allow"]);
  assert.deepEqual(verdicts("none"), ["deny", "deny"]);
});

test("a policy that there is not is refused with those that there are", () => {
  assert.equal(namedPolicy("office", { office: OFFICE }), OFFICE);
  assert.throws(() => namedPolicy("ofice", { office: OFFICE }), {
    code: "input.invalid",
    message: 'policy: there is no policy "ofice".',
    hint: /Did you mean office\? Policies are internet, open, none, office\./,
  });
  for (const name of ["constructor", "toString"])
    assert.throws(() => namedPolicy(name, {}), { message: /there is no policy/ });
});

test("names have letters, digits and hyphens, and those of Hearth cannot be taken", () => {
  for (const name of ["office", "a", "office-2", "x".repeat(63)]) {
    assert.equal(parsePolicyName(name), name);
    checkOwnName(name);
  }
  for (const name of ["", "Office", "-a", "a-", "a b", "a.b", "../a", "x".repeat(64), "__proto__"])
    assert.throws(() => parsePolicyName(name), { code: "input.invalid" }, name);
  for (const name of ["internet", "open", "none", "Open"])
    assert.throws(() => checkOwnName(name), { code: "input.invalid" }, name);
});
