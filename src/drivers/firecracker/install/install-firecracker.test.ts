import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { errorChain } from "#base/error.ts";
import type { HearthError } from "#base/error.ts";
import type { Progress } from "#base/progress.ts";
import { findFirecracker } from "#drivers/firecracker/install/find-firecracker.ts";
import { installFirecracker } from "#drivers/firecracker/install/install-firecracker.ts";
import type { Installation } from "#drivers/firecracker/install/install-firecracker.ts";
import { sha256 } from "#host/hash-file.ts";
import { startLockHolder } from "#testing/lock-holder.ts";
import {
  archivePath,
  packArchive,
  releaseMembers,
  ReleaseServer,
  versionScript,
} from "#testing/release-server.ts";
import type { ReleaseMember } from "#testing/release-server.ts";

const VERSION = "1.13.4";
const quiet = (): void => {};

type Bed = {
  readonly site: ReleaseServer;
  readonly cacheDir: string;
  install(
    version?: string,
    onProgress?: (progress: Progress) => void,
    signal?: AbortSignal,
  ): Promise<Installation>;
  /** Lists the installed versions, and the other files in the cache. */
  left(): { readonly versions: string[]; readonly staging: string[] };
};

async function makeBed(t: TestContext, stallMs?: number): Promise<Bed> {
  const cacheDir = mkdtempSync(join(tmpdir(), "hearth-install-"));
  t.after(() => rmSync(cacheDir, { recursive: true }));
  const site = await ReleaseServer.start();
  t.after(() => site[Symbol.asyncDispose]());
  const options = { cacheDir, releaseUrl: site.url, architecture: "x86_64", stallMs } as const;
  const namesIn = (name: string): string[] =>
    existsSync(join(cacheDir, name)) ? readdirSync(join(cacheDir, name)) : [];
  return {
    site,
    cacheDir,
    install: (version, onProgress = quiet, signal = t.signal) =>
      installFirecracker(options, version, onProgress, signal),
    left: () => ({ versions: namesIn("firecracker"), staging: namesIn("tmp") }),
  };
}

describe("installing Firecracker", () => {
  test("the newest release is found by the redirect, verified, and only its two programs are kept", async (t) => {
    const { site, cacheDir, install, left } = await makeBed(t);
    const archive = await site.publish(VERSION);
    const told: Progress[] = [];
    const made = await install(undefined, (progress) => told.push(progress));
    assert.deepEqual({ version: made.version, fresh: made.fresh }, { version: VERSION, fresh: true });
    assert.equal(site.asked[0], "/latest");
    assert.deepEqual(left(), { versions: [VERSION], staging: [] });
    const dir = join(cacheDir, "firecracker", VERSION);
    assert.deepEqual(readdirSync(dir).toSorted(), ["firecracker", "jailer", "manifest.json"]);
    for (const path of [made.program, made.jailer]) {
      assert.equal(statSync(path).mode & 0o7777, 0o755);
      assert.equal(statSync(path).uid, process.getuid?.());
    }
    const last = told.findLast(({ doneBytes }) => doneBytes !== undefined);
    assert.equal(last?.doneBytes, archive.length);
    const found = await findFirecracker({ cacheDir, path: "" }, t.signal);
    assert.ok(found.ok);
    assert.deepEqual([found.version, found.source, found.mode], [VERSION, "installed", 0o755]);
  });

  test("an installed release is not downloaded again, unless it was damaged", async (t) => {
    const { site, install, left } = await makeBed(t);
    await site.publish(VERSION);
    const { program } = await install(VERSION);
    site.asked.length = 0;
    assert.equal((await install(`v${VERSION}`)).fresh, false);
    assert.deepEqual(site.asked, []);
    writeFileSync(program, versionScript("Firecracker", VERSION).replace("echo", "true; echo"));
    assert.equal((await install(VERSION)).fresh, true);
    assert.deepEqual(left(), { versions: [VERSION], staging: [] });
  });

  test("eight simultaneous installations download once", async (t) => {
    const { site, install, left } = await makeBed(t);
    await site.publish(VERSION);
    const made = await Promise.all(Array.from({ length: 8 }, () => install(VERSION)));
    assert.equal(made.filter(({ fresh }) => fresh).length, 1);
    assert.equal(site.asked.filter((path) => path === archivePath(VERSION)).length, 1);
    assert.deepEqual(left(), { versions: [VERSION], staging: [] });
  });

  test("an installation in another process is waited for, and the caller is informed", async (t) => {
    const { site, cacheDir, install } = await makeBed(t);
    await site.publish("1.12.5");
    await install();
    await site.publish(VERSION);
    const holder = await startLockHolder(join(cacheDir, "locks", "firecracker.lock"), t.signal);
    const told = Promise.withResolvers<void>();
    const made = install(VERSION, ({ text }) => {
      if (text === "waiting for another installation") told.resolve();
    });
    await told.promise;
    await holder.kill();
    assert.equal((await made).fresh, true);
  });

  test("the programs of a version with known checksums must have those", async (t) => {
    const { site, install, left } = await makeBed(t);
    await site.publish("1.12.1");
    await assert.rejects(install("1.12.1"), {
      code: "vmm.install_failed",
      message: /Hearth expects b99ea49b/,
    });
    assert.deepEqual(left(), { versions: [], staging: [] });
  });

  for (const version of ["1.11.0", "0.9.9", "1.13", "latest", "../1.13.4", "1.13.4/x", "v1.13.4-rc1", ""]) {
    test(`version ${JSON.stringify(version)} is refused before any request`, async (t) => {
      const { site, install } = await makeBed(t);
      await assert.rejects(install(version), { code: "input.invalid" });
      assert.deepEqual(site.asked, []);
    });
  }

  for (const version of ["1.16.0", "v1.16.1"]) {
    test(`version ${version}, which makes VMs unreachable, is refused with the versions to use`, async (t) => {
      const { site, install } = await makeBed(t);
      await assert.rejects(install(version), {
        code: "input.invalid",
        message: /^version: Firecracker 1\.16\.[01] makes a VM .* unreachable for good/,
        hint: "Use Firecracker 1.16.2 or newer, or 1.15.1.",
      });
      assert.deepEqual(site.asked, []);
    });
  }

  test("a newest release that makes VMs unreachable is not installed", async (t) => {
    const { site, install, left } = await makeBed(t);
    await site.publish("1.16.1");
    await assert.rejects(install(), { code: "input.invalid", hint: /1\.16\.2 or newer, or 1\.15\.1/ });
    assert.deepEqual(left(), { versions: [], staging: [] });
  });
});

type Fault = {
  readonly what: string;
  readonly code?: string;
  readonly message: RegExp;
  readonly stallMs?: number;
  /** Publishes a correct release before this. */
  readonly spoil: (site: ReleaseServer) => void | Promise<unknown>;
  /** Undefined for the newest. */
  readonly version?: string | undefined;
};

const NAME = `release-v${VERSION}-x86_64/firecracker-v${VERSION}-x86_64`;

/** Publishes a damaged archive with its correct checksum. */
function badArchive(
  what: string,
  message: RegExp,
  change: (members: ReleaseMember[]) => ReleaseMember[],
): Fault {
  return { what, message, spoil: (site) => site.publish(VERSION, change(releaseMembers(VERSION))) };
}

function replaced(header: Partial<ReleaseMember>): (members: ReleaseMember[]) => ReleaseMember[] {
  return (members) =>
    members.map((one) => (one.name === NAME ? ({ name: NAME, ...header } as ReleaseMember) : one));
}

const FAULTS: readonly Fault[] = [
  {
    what: "a published sum of another file",
    message: /its sha256 is \w{64}, but the published one is 0{64}/,
    spoil: (site) => site.sumIs(VERSION, "0".repeat(64)),
  },
  {
    what: "an archive with another content",
    message: /the published one is/,
    spoil: async (site) => {
      const other = await packArchive(releaseMembers("1.14.0"));
      site.answers.set(archivePath(VERSION), (_, response) => void response.end(other));
    },
  },
  {
    what: "a sum file for another name",
    message: /do not include firecracker-v/,
    spoil: (site) => site.text(`${archivePath(VERSION)}.sha256.txt`, `${"0".repeat(64)}  other.tgz\n`),
  },
  {
    what: "a sum file that is a page",
    message: /do not include firecracker-v/,
    spoil: (site) => site.text(`${archivePath(VERSION)}.sha256.txt`, "<html>Sign in</html>"),
  },
  {
    what: "a sum file without end",
    code: "download.failed",
    message: /has more than 65536 bytes/,
    spoil: (site) => site.text(`${archivePath(VERSION)}.sha256.txt`, "x".repeat(100_000)),
  },
  {
    what: "no sum file",
    code: "download.failed",
    message: /sha256\.txt could not be downloaded: the response is 404/,
    spoil: (site) => void site.answers.delete(`${archivePath(VERSION)}.sha256.txt`),
  },
  {
    what: "no archive",
    code: "download.failed",
    message: /x86_64\.tgz could not be downloaded: the response is 404/,
    spoil: (site) => void site.answers.delete(archivePath(VERSION)),
  },
  {
    what: "an archive that stalls",
    code: "download.failed",
    message: /no data arrived for/,
    stallMs: 150,
    spoil: (site) =>
      site.answers.set(archivePath(VERSION), (_, response) => {
        response.writeHead(200, { "content-length": "100000" });
        response.write("some bytes, and then nothing");
      }) as unknown as void,
  },
  {
    what: "a server that does not answer",
    code: "download.failed",
    message: /no data arrived for/,
    stallMs: 150,
    spoil: (site) => void site.answers.set(archivePath(VERSION), () => {}),
  },
  {
    what: "an archive that is cut short",
    code: "download.failed",
    message: /could not be downloaded: other side closed/,
    spoil: (site) =>
      void site.answers.set(archivePath(VERSION), (_, response) => {
        response.writeHead(200, { "content-length": "100000" });
        response.write("half", () => response.destroy());
      }),
  },
  {
    what: "an archive that claims to be huge",
    code: "download.failed",
    message: /has more than 268435456 bytes/,
    spoil: (site) =>
      void site.answers.set(archivePath(VERSION), (_, response) => {
        response.writeHead(200, { "content-length": String(2 ** 40) });
        response.write("x");
      }),
  },
  {
    what: "redirects in a loop",
    code: "download.failed",
    message: /redirects more than 5 times/,
    spoil: (site) => site.redirect(archivePath(VERSION), archivePath(VERSION)),
  },
  {
    what: "a redirect to a file",
    code: "download.failed",
    message: /file:\/\/\/etc\/passwd is neither HTTPS/,
    spoil: (site) => site.redirect(archivePath(VERSION), "file:///etc/passwd"),
  },
  {
    what: "a redirect to plain HTTP elsewhere",
    code: "download.failed",
    message: /http:\/\/192\.0\.2\.1\/\S+ is neither HTTPS/,
    spoil: (site) => site.redirect(archivePath(VERSION), "http://192.0.2.1/firecracker.tgz"),
  },
  {
    what: "a newest release without a tag",
    code: "download.failed",
    version: undefined,
    message: /latest could not be downloaded: it redirected to/,
    spoil: (site) => site.text("/latest", "<html>here you are</html>"),
  },
  {
    what: "a newest release that is too old",
    code: "input.invalid",
    version: undefined,
    message: /Firecracker 1\.4\.0 is too old/,
    spoil: (site) => site.redirect("/latest", "/tag/v1.4.0"),
  },
  {
    what: "something that is no archive",
    message: /is invalid: incorrect header check/,
    spoil: (site) => {
      const bytes = "this is not gzip";
      site.answers.set(archivePath(VERSION), (_, response) => void response.end(bytes));
      site.sumIs(VERSION, sha256(bytes));
    },
  },
  {
    what: "an archive whose tar is cut short",
    message: /is invalid: .*(?:end of data|checksum|tar)/i,
    spoil: (site) => {
      const bytes = gzipSync(Buffer.alloc(700, 65));
      site.answers.set(archivePath(VERSION), (_, response) => void response.end(bytes));
      site.sumIs(VERSION, sha256(bytes));
    },
  },
  badArchive("an archive without the jailer", /does not contain jailer/, (members) => members.slice(0, -1)),
  badArchive("an archive with a program twice", /contains \S+ twice/, (members) => [...members, ...members]),
  badArchive(
    "a link for a program",
    /not a file in it, but a symlink/,
    replaced({ type: "symlink", linkname: "/bin/sh" }),
  ),
  badArchive(
    "a hard link for a program",
    /not a file in it, but a link/,
    replaced({ type: "link", linkname: "/bin/sh" }),
  ),
  badArchive(
    "a directory for a program",
    /not a file in it, but a directory/,
    replaced({ type: "directory" }),
  ),
  badArchive("an empty program", /has 0 bytes in it/, replaced({ content: "" })),
  badArchive("a path that leads outside", /contains a path outside/, (members) => [
    { name: "release/../../../evil", content: "evil" },
    ...members,
  ]),
  badArchive("an absolute path", /contains a path outside/, (members) => [
    { name: "/tmp/hearth-evil", content: "evil" },
    ...members,
  ]),
  badArchive("more files than a release has", /more than 1000 files/, (members) => [
    ...Array.from({ length: 1_001 }, (_, index) => ({ name: `file-${index}` })),
    ...members,
  ]),
  badArchive("programs of another version", /reports version 1\.14\.0/, () =>
    releaseMembers(VERSION, "1.14.0"),
  ),
  badArchive("a program that does not run", /failed with 3/, replaced({ content: "#!/bin/sh\nexit 3\n" })),
];

describe("an installation that fails leaves no part of it, and an earlier version unchanged", () => {
  for (const { what, code = "vmm.install_failed", message, stallMs, spoil, ...more } of FAULTS) {
    test(what, async (t) => {
      const { site, cacheDir, install, left } = await makeBed(t, stallMs);
      await site.publish("1.12.5");
      await install();
      await site.publish(VERSION);
      await spoil(site);
      await assert.rejects(install("version" in more ? undefined : VERSION), (error: HearthError) => {
        assert.equal(error.code, code);
        assert.match(errorChain(error), message);
        return true;
      });
      assert.deepEqual(left(), { versions: ["1.12.5"], staging: [] });
      const found = await findFirecracker({ cacheDir, path: "" }, t.signal);
      assert.equal(found.ok && found.version, "1.12.5");
      await site.publish(VERSION);
      assert.equal((await install(VERSION)).fresh, true, "and the next attempt works");
    });
  }

  test("a caller that cancels", async (t) => {
    const { site, install, left } = await makeBed(t);
    await site.publish(VERSION);
    const leave = new AbortController();
    const answer = site.answers.get(archivePath(VERSION))!;
    site.answers.set(archivePath(VERSION), (_, response) => {
      response.write("x");
      leave.abort(new Error("the caller left"));
    });
    await assert.rejects(install(VERSION, quiet, leave.signal), /the caller left/);
    assert.deepEqual(left(), { versions: [], staging: [] });
    site.answers.set(archivePath(VERSION), answer);
    await install(VERSION);
  });

  test("a link in an archive, besides the programs, is not created", async (t) => {
    const { site, cacheDir, install } = await makeBed(t);
    await site.publish(VERSION, [
      { name: "firecracker", type: "symlink", linkname: "/etc" },
      ...releaseMembers(VERSION),
    ]);
    await install();
    const dir = join(cacheDir, "firecracker", VERSION);
    assert.deepEqual(readdirSync(dir).toSorted(), ["firecracker", "jailer", "manifest.json"]);
  });
});
