/** Connections that are open during a save stay open in the source; in a copy they end, and the agent answers. */
import assert from "node:assert/strict";
import { createInterface } from "node:readline";
import { before, describe, test } from "node:test";
import { HearthError } from "#sdk/hearth.ts";
import type { GuestProcess, Hearth } from "#sdk/hearth.ts";
import { Bed } from "./bed.ts";
import { SMALL } from "./templates.ts";

const bed = new Bed();
/** For an end, or an answer, that must not need a person. */
const BOUND_MS = 30_000;
const STORM = 50;
const COUNT = "i=0; while :; do echo $i; i=$((i + 1)); sleep 0.02; done";
let hearth: Hearth;

before(async () => {
  await bed.ok(["create", "--name", "web", ...SMALL, "debian"]);
  hearth = await bed.connect();
});

/** Fails with a message about a hang if the work does not end in time. */
async function within<Result>(what: string, work: Promise<Result>): Promise<Result> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`${what} hangs`)), BOUND_MS);
  return Promise.race([work, promise]).finally(() => clearTimeout(timer));
}

/** Numbers that come, one a line. */
class Counted {
  readonly numbers: number[] = [];
  #wanted = 0;
  #reached = Promise.withResolvers<void>();

  constructor(command: GuestProcess) {
    command.stderr.resume();
    createInterface(command.stdout).on("line", (line) => {
      this.numbers.push(Number(line));
      if (this.numbers.length >= this.#wanted) this.#reached.resolve();
    });
  }

  async more(count: number): Promise<void> {
    this.#wanted = this.numbers.length + count;
    this.#reached = Promise.withResolvers();
    await within("a command's output", this.#reached.promise);
  }
}

/** How many programs count in there. The pattern is none that finds itself. */
async function counting(name: string): Promise<number> {
  const script = "grep -la '[i]=0; while' /proc/[0-9]*/cmdline 2>/dev/null | wc -l";
  return Number(await bed.sh(name, script));
}

/** Each gets its own answer. */
async function assertServesStorm(name: string): Promise<void> {
  const script = 'read -r line; echo "$line $1 $(hostname)"';
  const answers = await within(
    "a storm of commands",
    Promise.all(
      Array.from({ length: STORM }, (_, index) =>
        hearth.vm(name).exec(["sh", "-c", script, "sh", String(index)], { input: `line ${index}\n` }),
      ),
    ),
  );
  assert.deepEqual(
    answers.map(({ stdout }) => stdout),
    answers.map((_, index) => `line ${index} ${index} ${name}\n`),
  );
}

describe("while a VM is saved", { concurrency: false }, () => {
  test("the output of its commands continues, with nothing missing and nothing twice", async () => {
    await using command = await hearth.vm("web").spawn(["sh", "-c", COUNT]);
    const counted = new Counted(command);
    await counted.more(20);
    assert.equal(await counting("web"), 1);
    for (const name of ["one", "two"]) {
      await hearth.snapshots.create({ vm: "web", name });
      await counted.more(20);
    }
    assert.deepEqual(
      counted.numbers,
      counted.numbers.map((_, index) => index),
    );
    await hearth.snapshots.remove("two");
  });

  test("what is written to their stdin arrives, before and after", async () => {
    await using command = await hearth.vm("web").spawn(["cat"], { stdin: true });
    const answers = createInterface(command.stdout)[Symbol.asyncIterator]();
    for (const word of ["before", "after", "again"]) {
      command.stdin.write(`${word}\n`);
      assert.equal((await within("cat", answers.next())).value, word);
      await hearth.snapshots.create({ vm: "web", name: word });
      await hearth.snapshots.remove(word);
    }
    command.stdin.end();
    assert.equal((await within("cat", command.exited)).exitCode, 0);
  });

  test("commands that come meanwhile run, all of them", async () => {
    const saving = hearth.snapshots.create({ vm: "web", name: "busy" });
    await assertServesStorm("web");
    await saving;
    await assertServesStorm("web");
    await hearth.snapshots.remove("busy");
  });

  test("a file that is being copied arrives whole", async () => {
    const bytes = 48 * 1024 * 1024;
    const script = `head -c ${bytes} /dev/zero | tr '\\0' x | tee /root/big | sha256sum`;
    const sum = await bed.sh("web", script);
    const saving = hearth.snapshots.create({ vm: "web", name: "copying" });
    await bed.ok(["cp", "web:/root/big", `${bed.dir}/big`]);
    await bed.ok(["cp", `${bed.dir}/big`, "web:/root/back"]);
    await saving;
    assert.equal(await bed.sh("web", "sha256sum < /root/back; rm /root/big /root/back"), sum);
    await hearth.snapshots.remove("copying");
  });
});

describe("in a VM that is restored from there", { concurrency: false }, () => {
  test(`the agent answers at once, to a storm of ${STORM} commands, and commands that no client reads any more are ended`, async () => {
    await bed.ok(["create", "--name", "copy", "--snapshot", "one"]);
    await assertServesStorm("copy");
    await within(
      "what nobody reads",
      bed.until(async () => (await counting("copy")) === 0),
    );
    await bed.ok(["rm", "-f", "copy"]);
  });

  test(`a storm of ${STORM} commands right after a fork is served, in all copies at once`, async () => {
    const copies = await hearth.vm("web").fork({ count: 2 });
    await Promise.all(copies.map(({ name }) => assertServesStorm(name)));
    await Promise.all(copies.map((copy) => copy.remove({ force: true })));
  });
});

describe("when a VM is suspended", { concurrency: false }, () => {
  test(`a command that is under way ends with an error, a storm of ${STORM} resumes the VM, and a command whose output is not read is ended`, async () => {
    await using command = await hearth.vm("web").spawn(["sh", "-c", COUNT]);
    await new Counted(command).more(5);
    await hearth.vm("web").suspend();
    const error = await within(
      "the command",
      command.exited.then(
        () => undefined,
        (reason: unknown) => reason,
      ),
    );
    assert.ok(error instanceof HearthError);
    assert.equal(error.code, "agent.unreachable");
    await assertServesStorm("web");
    await within(
      "what nobody reads",
      bed.until(async () => (await counting("web")) === 0),
    );
  });
});
