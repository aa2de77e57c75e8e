import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSourcesLines, parseSourcesStanzas } from "#host/apt-sources.ts";

test("both forms of apt's source files describe the same sources", () => {
  const stanzas = parseSourcesStanzas(
    [
      "Types: deb deb-src",
      "# a comment between fields",
      "URIs: http://mirror.example/debian",
      "Suites: bookworm",
      "Components: main contrib",
      "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg",
    ].join("\n"),
  );
  const lines = parseSourcesLines(
    "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror.example/debian bookworm main contrib # ours\n",
  );
  assert.deepEqual(stanzas, lines);
  assert.deepEqual(lines, [
    {
      uris: ["http://mirror.example/debian"],
      suites: ["bookworm"],
      components: ["main", "contrib"],
      signedBy: "/usr/share/keyrings/debian-archive-keyring.gpg",
      trusted: false,
    },
  ]);
});

test("disabled entries, source packages and comments are no sources", () => {
  assert.deepEqual(parseSourcesLines("# deb http://a b main\ndeb-src http://a b main\n\n"), []);
  assert.deepEqual(parseSourcesStanzas("Types: deb-src\nURIs: http://a\nSuites: b\nComponents: main\n"), []);
  assert.deepEqual(
    parseSourcesStanzas("Enabled: no\nTypes: deb\nURIs: http://a\nSuites: b\nComponents: main\n"),
    [],
  );
});

test("a stanza may contain several values, folded lines and a key instead of a keyring", () => {
  const [source, next] = parseSourcesStanzas(
    [
      "Types: deb",
      "URIs: http://a http://b",
      "Suites: bookworm",
      "  bookworm-updates",
      "Components: main",
      "Signed-By:",
      " -----BEGIN PGP PUBLIC KEY BLOCK-----",
      " .",
      " abc",
      "Trusted: yes",
      "",
      "",
      "Types: deb",
      "URIs: http://c",
      "Suites: sid",
      "Components: main",
    ].join("\n"),
  );
  assert.deepEqual(source?.suites, ["bookworm", "bookworm-updates"]);
  assert.deepEqual(source.uris, ["http://a", "http://b"]);
  assert.equal(source.signedBy, undefined);
  assert.equal(source.trusted, true);
  assert.deepEqual(next?.uris, ["http://c"]);
});
