/**
 * The README's first commands on Debian 13, as a new user types them: as root, and as a user with no rights but to use
 * /dev/kvm. Sizes and templates are the defaults. The driver is named, because a new user has no Firecracker yet and
 * the lab has one.
 *
 * Left out are those that take their time and do not depend on who types them or on the host's release, which e2e runs:
 * `make test`, stops, forks, snapshots, and what only shows. Set-up is left out, too, because the lab has no network: the
 * stamps say that it was done.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { endProcess } from "#host/process-end.ts";
import { findProcessesNaming } from "#host/find-processes.ts";
import { commandsOf, DOC_TIMEOUT_MS, ROOT } from "../e2e/doc-commands.ts";
import { runCli } from "../e2e/run-cli.ts";
import type { CliResult } from "../e2e/run-cli.ts";
import { command } from "./command.ts";

/** A line of the README, what it prints, and its exit code, which is 0 when left out. */
type Expected = { readonly line: RegExp; readonly prints: RegExp; readonly code?: number };

const RUN: Expected = {
  line: /^\.\/hearth run debian -- uname -a$/,
  prints: /^Linux \S+ .* x86_64 GNU\/Linux\n$/,
};
const OF_ROOT: readonly Expected[] = [
  RUN,
  { line: /^\.\/hearth create --name box/, prints: /^box\n$/ },
  { line: /^\.\/hearth exec box -- sh -c/, prints: /^$/ },
];
/** A user lacks rights, and the isolation that needs them; the rest does not differ. */
const OF_USER: readonly Expected[] = [
  RUN,
  { line: /^\.\/hearth run --rm debian -- sh -c .*exit 3/, prints: /^hello from \S+\n$/, code: 3 },
];
/** Compiled by a test that ran before: an emulated CPU takes half a minute to compile hearthd. */
const COMPILED = "/srv/cache/compile";
const REMOVE_ALL = "./hearth rm -f $(./hearth ls -q)";
const README = commandsOf("README.md");

/** Somebody with a home of his own. The images are those of the lab, which has no network to build them. */
class Newcomer {
  readonly home = mkdtempSync("/run/lab/nc-");
  /** Takes what is written to the images. */
  readonly #layer = mkdtempSync("/run/lab/layer-");
  readonly #user: string;

  constructor(user: string) {
    this.#user = user;
  }

  async moveIn(): Promise<void> {
    const cache = join(this.home, "cache/hearth");
    const [upper, work] = [join(this.#layer, "upper"), join(this.#layer, "work")];
    const config = join(this.home, ".config/hearth");
    for (const dir of [cache, upper, work, config, join(this.home, "run")])
      mkdirSync(dir, { recursive: true });
    writeFileSync(join(config, "config.toml"), '[defaults]\ndriver = "qemu"\n');
    if (existsSync(COMPILED)) await command("cp", ["-a", COMPILED, join(this.home, "compile")]);
    // A file that changes its owner is not copied then.
    const layers = `metacopy=on,lowerdir=/lab/cache,upperdir=${upper},workdir=${work}`;
    await command("mount", ["-t", "overlay", "-o", layers, "images", cache]);
    await command("chown", ["-R", this.#user, this.home]);
  }

  type(line: string): Promise<CliResult> {
    const env = [
      `HOME=${this.home}`,
      `XDG_CACHE_HOME=${join(this.home, "cache")}`,
      `NODE_COMPILE_CACHE=${join(this.home, "compile")}`,
      `XDG_RUNTIME_DIR=${join(this.home, "run")}`,
      "PATH=/usr/local/bin:/usr/bin:/bin",
    ];
    const words = ["-u", this.#user, "--", "env", "-i", ...env, "sh", "-c", line];
    return runCli("/usr/sbin/runuser", words, { cwd: ROOT, timeoutMs: DOC_TIMEOUT_MS });
  }

  async leave(): Promise<void> {
    await this.type(`${REMOVE_ALL}; ./hearth daemon stop`);
    const signal = AbortSignal.timeout(30_000);
    for (const vmm of findProcessesNaming([this.home], /^(qemu-|firecracker|bwrap|setpriv|prlimit)/))
      await endProcess(vmm, 0, signal);
    await command("umount", ["-l", join(this.home, "cache/hearth")]);
    for (const dir of [this.home, this.#layer]) rmSync(dir, { recursive: true, force: true });
  }
}

/** The one line of the README that this is. */
function lineOf(pattern: RegExp): string {
  const [line, ...others] = README.filter((one) => pattern.test(one));
  assert.ok(line !== undefined, `the README has a line ${pattern}`);
  assert.deepEqual(
    [...new Set(others)].filter((other) => other !== line),
    [],
    `${pattern} is one line`,
  );
  return line;
}

before(async () => {
  mkdirSync(join(ROOT, ".setup"), { recursive: true });
  for (const stamp of ["npm", "all"]) writeFileSync(join(ROOT, ".setup", stamp), "");
  await command("useradd", ["--no-create-home", "--groups", "kvm", "newcomer"]);
});

after(() => command("userdel", ["newcomer"]));

for (const [user, commands] of [
  ["root", OF_ROOT],
  ["newcomer", OF_USER],
] as const) {
  describe(`the README's commands on Debian 13, as ${user}`, { concurrency: false }, () => {
    const newcomer = new Newcomer(user);
    before(() => newcomer.moveIn());
    after(() => newcomer.leave());

    for (const { line: pattern, prints, code = 0 } of commands) {
      const line = lineOf(pattern);
      test(line, async () => {
        const result = await newcomer.type(line);
        assert.equal(result.code, code, result.stderr);
        assert.match(result.stdout, prints);
      });
    }

    test("doctor finds nothing that keeps VMs from running, and the KVM that they ran with", async () => {
      const { stdout } = await newcomer.type("./hearth doctor");
      // The lab builds no images.
      const failures = [...stdout.matchAll(/^fail +([^:]+)/gm)].map(([, name = ""]) => name);
      assert.deepEqual(
        failures.filter((name) => name !== "mmdebstrap"),
        [],
      );
      assert.match(stdout, /^pass +kvm: A guest booted/m);
      assert.match(stdout, /^pass +qemu: version \d+\.\d+\.\d+, kvm$/m);
    });

    test("removing the VMs leaves no process and no directory of theirs", async () => {
      const listed = JSON.parse((await newcomer.type("./hearth ls --json")).stdout) as { id: string }[];
      assert.ok(listed.length > 0, "there are VMs to remove");
      // hearthd may be making a template by now, in a VM of its own.
      const state = join(newcomer.home, ".local/state/hearth/vms");
      const left = (): string[] => listed.map(({ id }) => id).filter((id) => existsSync(join(state, id)));
      assert.equal(left().length, listed.length, "their directories are looked for in the right place");
      assert.equal((await newcomer.type(REMOVE_ALL)).code, 0);
      assert.deepEqual(left(), []);
      for (const { id } of listed) assert.deepEqual(findProcessesNaming([id], /./), []);
    });
  });
}
