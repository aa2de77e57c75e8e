import assert from "node:assert/strict";
import { test } from "node:test";
import { changeLabels, formatLabels, parseLabelChanges, parseLabels } from "#model/labels.ts";
import { LIMITS } from "#model/limits.ts";

test("labels of Docker and of Kubernetes are taken, with a value or without", () => {
  assert.deepEqual(
    parseLabels([
      "com.docker.compose.project=shop",
      "app.kubernetes.io/name=web",
      "ci",
      "note=a = b, é",
      "empty=",
    ]),
    {
      "com.docker.compose.project": "shop",
      "app.kubernetes.io/name": "web",
      ci: "",
      note: "a = b, é",
      empty: "",
    },
  );
  assert.deepEqual(parseLabels([`${"k".repeat(63)}=${"v".repeat(LIMITS.labelValueMaxBytes)}`]), {
    ["k".repeat(63)]: "v".repeat(LIMITS.labelValueMaxBytes),
  });
});

test("an invalid key or value is refused with the rule", () => {
  const bad = [
    "",
    "=x",
    "-a=x",
    "a-",
    "a b=x",
    "a/b/c",
    "/a",
    "A.b/c",
    "é=x",
    "__proto__=x",
    "k".repeat(64),
    `${"p".repeat(254)}/k`,
  ];
  for (const text of bad)
    assert.throws(
      () => parseLabels([text]),
      { code: "input.invalid", message: /label key/, hint: /1 to 63/ },
      text,
    );
  for (const value of ["a\nb", "\u001b[2J", "\u009b2J", "\u202etxt", "\u0000"])
    assert.throws(() => parseLabels([`k=${value}`]), { code: "input.invalid", message: /cannot be printed/ });
  const long = `k=${"é".repeat(LIMITS.labelValueMaxBytes)}`;
  assert.throws(() => parseLabels([long]), { code: "input.invalid", message: /510 bytes; the limit is 255/ });
  assert.throws(() => parseLabels(["k=1", "k=2"]), { code: "input.invalid", message: /k is given twice/ });
});

test("the number of labels of one VM is limited, also when they are added one by one", () => {
  const labels = Object.fromEntries(
    Array.from({ length: LIMITS.labelsMax }, (_, index) => [`k${index}`, ""]),
  );
  const texts = Object.keys(labels);
  assert.deepEqual(parseLabels(texts), labels);
  assert.throws(() => parseLabels([...texts, "more"]), {
    code: "input.invalid",
    message: /there would be 65/,
  });
  assert.throws(() => changeLabels(labels, { more: "" }), {
    code: "input.invalid",
    hint: /hearth set --label KEY-/,
  });
  assert.deepEqual(Object.keys(changeLabels(labels, { more: "", k0: null })).length, LIMITS.labelsMax);
});

test("a change sets and removes labels, and leaves the others", () => {
  const changes = parseLabelChanges(["team=web", "old-", "odd=a-", "gone-"]);
  assert.deepEqual(changes, { team: "web", old: null, odd: "a-", gone: null });
  const before = { team: "db", old: "1", kept: "yes" };
  const after = changeLabels(before, changes);
  assert.deepEqual(after, { team: "web", kept: "yes", odd: "a-" });
  assert.deepEqual(parseLabels(formatLabels(after)), after);
  assert.throws(() => parseLabelChanges(["team=web", "team-"]), { code: "input.invalid", message: /twice/ });
});

test("a label's key may be the name of a property that every object has", () => {
  assert.deepEqual(changeLabels({}, { constructor: "x" }), { constructor: "x" });
});
