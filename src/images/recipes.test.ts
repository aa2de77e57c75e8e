import assert from "node:assert/strict";
import { test } from "node:test";
import { findRecipe, getRecipe } from "#images/recipes.ts";

test("an image without a tag is bookworm, and the systemd images offer both inits", () => {
  assert.equal(getRecipe("debian").ref, "debian:bookworm");
  assert.equal(getRecipe("debian:trixie").suite, "trixie");
  assert.deepEqual(getRecipe("debian-systemd").inits, ["agent", "systemd"]);
  assert.equal(findRecipe("debian:potato"), undefined);
});

test("the error for an unknown image names the nearest one, or all", () => {
  assert.throws(() => getRecipe("debain"), {
    code: "image.not_found",
    hint: "Did you mean debian:bookworm?",
  });
  assert.throws(() => getRecipe("windows"), { code: "image.not_found" });
});
