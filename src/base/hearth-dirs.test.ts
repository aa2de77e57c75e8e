import assert from "node:assert/strict";
import { test } from "node:test";
import { absoluteSetting, hearthDirs } from "#base/hearth-dirs.ts";

test("all directories are below HEARTH_HOME, or else follow XDG or their defaults", () => {
  assert.equal(hearthDirs({ HEARTH_HOME: "/h" }, "relative").state, "/h/state");
  const dirs = hearthDirs({ HEARTH_HOME: "", XDG_CACHE_HOME: "/c", XDG_RUNTIME_DIR: "" }, "/home/me");
  assert.deepEqual(dirs, {
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
      assert.throws(() => hearthDirs({ [name]: value }, "/home/me"), {
        code: "config.invalid",
        message: new RegExp(`${name} must be an absolute path`),
      });
    }
  });
}

test("a relative HOME is refused where it is used, and so is any other relative directory", () => {
  assert.throws(() => hearthDirs({}, "me"), { code: "config.invalid", message: /HOME/ });
  assert.throws(() => absoluteSetting({ HEARTH_AGENT_DIR: "build" }, "HEARTH_AGENT_DIR"), {
    code: "config.invalid",
  });
});
