import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSourcesLines } from "#host/apt-sources.ts";
import { planBackportsSource, planDebianSources } from "#images/debian-sources.ts";

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
const hasAll = (): boolean => true;
const hasNone = (): boolean => false;

const HOST = parseSourcesLines(`
deb [signed-by=/etc/apt/ours.gpg] https://mirror.example/debian/ bookworm main contrib
deb [signed-by=/etc/apt/ours.gpg] https://mirror.example/debian/ bookworm-updates main
deb [signed-by=/etc/apt/ours.gpg] https://mirror.example/debian-security bookworm-security main
deb https://vendor.example/apt stable main
`);

test("an image of the host's suite comes from the host's mirrors, with the host's keys", () => {
  assert.deepEqual(planDebianSources(HOST, "bookworm", hasAll), [
    "deb [signed-by=/etc/apt/ours.gpg] https://mirror.example/debian bookworm main",
    "deb [signed-by=/etc/apt/ours.gpg] https://mirror.example/debian bookworm-updates main",
    "deb [signed-by=/etc/apt/ours.gpg] https://mirror.example/debian-security bookworm-security main",
  ]);
});

test("an image of another suite comes from the same mirrors, with Debian's keys", () => {
  assert.deepEqual(planDebianSources(HOST, "trixie", hasAll), [
    `deb [signed-by=${KEYRING}] https://mirror.example/debian trixie main`,
    `deb [signed-by=${KEYRING}] https://mirror.example/debian trixie-updates main`,
    `deb [signed-by=${KEYRING}] https://mirror.example/debian-security trixie-security main`,
  ]);
});

test("backports come from the mirror of their suite, with its keys", () => {
  assert.equal(
    planBackportsSource(HOST, "bookworm", hasAll),
    "deb [signed-by=/etc/apt/ours.gpg] https://mirror.example/debian bookworm-backports main",
  );
});

test("a host without Debian's sources takes Debian's own mirrors", () => {
  const ubuntu = parseSourcesLines("deb http://archive.example/ubuntu noble main\n");
  for (const host of [[], ubuntu]) {
    assert.deepEqual(planDebianSources(host, "bookworm", hasNone), [
      "deb http://deb.debian.org/debian bookworm main",
      "deb http://deb.debian.org/debian bookworm-updates main",
      "deb http://deb.debian.org/debian-security bookworm-security main",
    ]);
  }
});

test("a mirror that cannot be reached from elsewhere is skipped, and its trust is kept", () => {
  const cdrom = parseSourcesLines("deb cdrom:[Debian]/ bookworm main\n");
  assert.match(
    planDebianSources(cdrom, "bookworm", hasNone)[0] ?? "",
    /deb http:\/\/deb\.debian\.org\/debian /,
  );
  const trusted = parseSourcesLines("deb [trusted=yes] http://mirror.example/debian bookworm main\n");
  assert.match(planDebianSources(trusted, "bookworm", hasAll)[0] ?? "", /^deb \[trusted=yes\] http:/);
});

test("a vendor that calls its suite stable is not taken for a mirror of Debian, wherever its file sorts", () => {
  const vendor = "deb [signed-by=/usr/share/keyrings/vendor.gpg] https://vendor.example/apt stable main\n";
  const debian = "deb http://mirror.example/debian bookworm main\n";
  assert.match(
    planDebianSources(parseSourcesLines(vendor + debian), "trixie", hasAll)[0] ?? "",
    / http:\/\/mirror\.example\/debian trixie main$/,
  );
  assert.match(
    planDebianSources(parseSourcesLines(vendor), "trixie", hasAll)[0] ?? "",
    / http:\/\/deb\.debian\.org\/debian trixie main$/,
  );
});

test("a mirror of Debian's that is listed by stable alone is taken", () => {
  for (const lines of [
    "deb http://mirror.example/debian stable main\ndeb http://mirror.example/debian stable-updates main\n",
    `deb [signed-by=${KEYRING}] http://mirror.example/debian stable main\n`,
  ]) {
    const [main] = planDebianSources(parseSourcesLines(lines), "trixie", hasAll);
    assert.match(main ?? "", / http:\/\/mirror\.example\/debian trixie main$/);
  }
});
