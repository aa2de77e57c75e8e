import assert from "node:assert/strict";
import { test } from "node:test";
import { absoluteSetting, hearthFolders } from "#base/folders.ts";

test("HEARTH_HOME holds everything, and else each directory follows XDG or its default", () => {
  assert.equal(hearthFolders({ HEARTH_HOME: "/h" }, "relative").state, "/h/state");
  const folders = hearthFolders({ HEARTH_HOME: "", XDG_CACHE_HOME: "/c", XDG_RUNTIME_DIR: "" }, "/home/me");
  assert.deepEqual(folders, {
    config: "/home/me/.config/hearth",
    state: "/home/me/.local/state/hearth",
    cache: "/c/hearth",
    run: "/home/me/.local/state/hearth/run",
  });
});

for (const name of [
  "HEARTH_HOME",
  "XDG_STATE_HOME",
  "XDG_CONFIG_HOME",
  "XDG_CACHE_HOME",
  "XDG_RUNTIME_DIR",
]) {
  test(`a relative ${name} is refused, because hearthd and its client would look in different directories`, () => {
    for (const value of ["hh", "./hh", "~/hh", ".", "../hh"]) {
      assert.throws(() => hearthFolders({ [name]: value }, "/home/me"), {
        code: "config.invalid",
        message: new RegExp(`${name} must be an absolute path`),
      });
    }
  });
}

test("a relative HOME is refused where a directory would follow from it, and so is any other directory", () => {
  assert.throws(() => hearthFolders({}, "me"), { code: "config.invalid", message: /HOME/ });
  assert.throws(() => absoluteSetting({ HEARTH_AGENT_DIR: "build" }, "HEARTH_AGENT_DIR"), {
    code: "config.invalid",
  });
});
