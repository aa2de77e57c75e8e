/** The Hearth that tests run is apart from that of whoever runs them, so neither has to be ended for the other. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { apiSocketPath, hearthDirs } from "#base/hearth-dirs.ts";
import { environment } from "../e2e/templates.ts";

const HOME = "/tmp/hb-1";
const CACHE = "/var/cache/e2e";

test("the Hearth of a test has no directory, socket or setting of the user's", (t) => {
  const before = { ...process.env };
  t.after(() => (process.env = before));
  const users = {
    HEARTH_HOME: "/home/me/hearth",
    HEARTH_LOG: "debug",
    XDG_STATE_HOME: "/home/me/state",
    XDG_RUNTIME_DIR: "/run/user/1000",
  };
  Object.assign(process.env, users);
  const theirs = Object.values(hearthDirs(process.env, "/home/me"));
  assert.ok(
    theirs.every((path) => path.startsWith("/home/me/hearth")),
    "these are the user's",
  );
  const env = environment(HOME, CACHE);
  const { cache, ...own } = hearthDirs(env, HOME);
  for (const path of [...Object.values(own), apiSocketPath({ cache, ...own })])
    assert.ok(path.startsWith(`${HOME}/`), path);
  assert.ok(cache.startsWith(`${CACHE}/`), cache);
  for (const [name, value] of Object.entries(users)) assert.notEqual(env[name], value, name);
});
