/** Tests both ends of the privileged port on a real socket, with the real verbs, and peers that lie. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { HearthError } from "#base/error.ts";
import { CALL_MAX_BYTES, CALLS_MAX, WIRE_VERBS } from "#helper/port-wire.ts";
import { PortClient } from "#helper/port-client.ts";
import type { PrivilegedPort } from "#helper/privileged-port.ts";
import { endProcess } from "#host/process-end.ts";
import { isAlive } from "#host/procfs.ts";
import { Fuzz } from "#testing/fuzz.ts";
import { HelperPlace, shell, SLEEP, VM } from "#testing/helper-place.ts";
import { serve, serveClient, socketPair } from "#testing/port-pair.ts";
import type { ServedPort } from "#testing/port-pair.ts";

const isRoot = process.geteuid?.() === 0;
const { signal: never } = new AbortController();
const LIMITS = { cpus: 1, memoryBytes: 2 ** 28, tasks: 100 };

test("an error crosses with code, message and hint, and an unforeseen one without its stack", async (t) => {
  const bug = new TypeError("x is undefined");
  const failing = port({
    giveFiles: () =>
      Promise.reject(
        new HearthError("host.uid_unmapped", "No such uid.", { hint: "Look.", cause: new Error("why") }),
      ),
    takeFiles: () => Promise.reject(bug),
  });
  const { socket, client, troubles } = await serveClient(t, failing);
  let sent = "";
  socket.on("data", (chunk: Buffer) => (sent += chunk.toString()));
  await assert.rejects(client.giveFiles(VM), {
    code: "host.uid_unmapped",
    message: "No such uid: why",
    hint: "Look.",
  });
  await assert.rejects(client.takeFiles(VM), { code: "internal.bug", message: /x is undefined/ });
  assert.deepEqual(troubles, [bug]);
  assert.doesNotMatch(sent, /\.ts|stack/);
});

test("a call that fails twice fails with the same error, and the connection stays open", async (t) => {
  using place = new HelperPlace();
  const { client } = await serveClient(t, place.helper(false));
  for (const _time of [1, 2]) await assert.rejects(client.giveFiles("vm-bbbbbbbbbbbb"), HearthError);
  await client.giveFiles(VM);
});

test("a cancelled call ends at the helper before it is over for its caller, with the caller's reason", async (t) => {
  let hasEnded = false;
  const waiting = port({
    runTool: (_tool, signal) =>
      untilAborted(signal).catch(async (error: unknown) => {
        await new Promise(setImmediate);
        hasEnded = true;
        throw error;
      }),
  });
  const { client } = await serveClient(t, waiting);
  const reason = new Error("enough");
  const abort = new AbortController();
  const call = client.runTool(shell("true"), abort.signal);
  await assert.rejects(client.listJails(), { code: "feature.missing" }); // By now the call is under way.
  abort.abort(reason);
  await assert.rejects(call, reason);
  assert.ok(hasEnded);
  await assert.rejects(client.runTool(shell("true"), abort.signal), reason);
});

test("a launch whose answer comes after its call was cancelled belongs to the caller", async (t) => {
  const late = { process: { pid: 5, startTicks: 1, hostBootId: "boot" }, launcher: undefined };
  const exit = Promise.withResolvers<{ code: null; signal: "SIGKILL" }>();
  const stubborn = port({
    launchVmm: async (_vm, _launch, signal) => {
      await assert.rejects(untilAborted(signal));
      return { ...late, exit: exit.promise };
    },
  });
  const { client } = await serveClient(t, stubborn);
  const abort = new AbortController();
  const call = client.launchVmm(VM, SLEEP, abort.signal);
  abort.abort(new Error("too late"));
  const launched = await call;
  assert.deepEqual(launched.process, late.process);
  exit.resolve({ code: null, signal: "SIGKILL" });
  assert.deepEqual(await launched.exit, { code: null, signal: "SIGKILL" });
});

test("more calls than the helper takes at once wait for their turn", async (t) => {
  const release = Promise.withResolvers<void>();
  let [now, most] = [0, 0];
  const slow = port({
    uidOf: async () => {
      most = Math.max(most, ++now);
      if (most === CALLS_MAX) release.resolve();
      await release.promise;
      now -= 1;
      return 7;
    },
  });
  const { client } = await serveClient(t, slow);
  const uids = await Promise.all(Array.from({ length: CALLS_MAX + 50 }, () => client.uidOf(VM)));
  assert.deepEqual(new Set(uids), new Set([7]));
  assert.equal(most, CALLS_MAX);
});

test("a peer that calls too often at once is refused, and calls under way continue", async (t) => {
  const release = Promise.withResolvers<void>();
  const served = await serve(t, port({ giveFiles: () => release.promise }));
  const answers = readAnswers(served);
  for (let call = 1; call <= CALLS_MAX + 1; call++) send(served, { call, verb: "giveFiles", args: [VM] });
  const refused = await answers.next();
  assert.deepEqual([refused.call, refused.error?.code], [CALLS_MAX + 1, "operation.too_many"]);
  release.resolve();
  assert.deepEqual(await answers.next(), { call: 1 });
});

test("unknown verbs and invalid arguments are refused, and nothing is called", async (t) => {
  const served = await serve(t, port({}));
  const answers = readAnswers(served);
  const refused: [string, unknown[]][] = [
    ...["rm", "", "constructor", "__proto__", "toString", "serve"].map((verb): [string, unknown[]] => [
      verb,
      [VM],
    ]),
    ...[[], [1], [null], [VM, VM], [{}], [[VM]], ["x".repeat(65)]].map((args): [string, unknown[]] => [
      "giveFiles",
      args,
    ]),
    ["makeCgroup", [VM, { ...LIMITS, cpus: -1 }]],
    ["makeCgroup", [VM, { ...LIMITS, more: 1 }]],
    ["launchVmm", [VM, { ...SLEEP, uid: 0 }]],
    ["launchVmm", [VM, { ...SLEEP, stdin: 3 }]],
    ["launchVmm", [VM, { ...SLEEP, args: ["a\0b"] }]],
    ["launchVmm", [VM, { ...SLEEP, priority: "realtime" }]],
    ["launchVmm", [VM, { ...SLEEP, isolation: { ...SLEEP.isolation, uid: 0 } }]],
    ["runTool", [{ ...shell("true"), writes: "/etc/passwd" }]],
  ];
  for (const [at, [verb, args]] of refused.entries()) {
    send(served, { call: at + 1, verb, args });
    const { call, error } = await answers.next();
    assert.deepEqual([call, error?.code], [at + 1, "input.invalid"], JSON.stringify([verb, args]));
  }
});

const BROKEN: Readonly<Record<string, string>> = {
  "is not JSON": "{call: 1}\n",
  "is no object": "[]\n",
  "has a field that no message has": '{"call":1,"verb":"uidOf","args":["vm-aaaaaaaaaaaa"],"uid":0}\n',
  "has an id that is none": '{"call":0,"verb":"uidOf","args":["vm-aaaaaaaaaaaa"]}\n',
  "has the id of a call before it":
    '{"call":2,"verb":"uidOf","args":[]}\n{"call":2,"verb":"uidOf","args":[]}\n',
  "is not UTF-8": "\xff\xfe\n",
  "is too long": `${"x".repeat(CALL_MAX_BYTES + 1)}\n`,
  "is too long and never ends": "x".repeat(CALL_MAX_BYTES + 1),
};
for (const [what, bytes] of Object.entries(BROKEN)) {
  test(`a message that ${what} ends the connection`, async (t) => {
    const served = await serve(t, port({}));
    served.socket.write(Buffer.from(bytes, "latin1"));
    served.socket.resume();
    await Promise.all([served.served, once(served.socket, "close")]);
    assert.equal(served.troubles.length, 1);
    assert.match(String(served.troubles[0]), /input\.(invalid|too_large)|HearthError/);
  });
}

test("a message that is cut off by the end of the connection does nothing", async (t) => {
  const called: string[] = [];
  const served = await serve(t, port({ giveFiles: (vm) => void called.push(vm) as never }));
  served.socket.end(JSON.stringify({ call: 1, verb: "giveFiles", args: [VM] }));
  await served.served;
  assert.deepEqual([called, served.troubles], [[], []]);
});

test("a peer that reads no answers gets no more calls done", async (t) => {
  const all = 300;
  let calls = 0;
  const long = ["x".repeat(100_000)];
  const served = await serve(t, port({ listJails: () => (calls++, Promise.resolve(long)) }));
  served.socket.pause();
  for (let call = 1; call <= all; call++) send(served, { call, verb: "listJails", args: [] });
  for (let [turns, last] = [0, 0]; turns < 100; turns = calls === last ? turns + 1 : 0) {
    last = calls;
    await new Promise(setImmediate);
  }
  assert.ok(calls > 0 && calls < all, `${calls} calls were done`);
  const answers = readAnswers(served);
  for (let call = 1; call <= all; call++) await answers.next();
  assert.equal(calls, all);
});

test("mutated and made-up messages change nothing, and leave the server able to serve", async (t) => {
  using place = new HelperPlace();
  const fuzz = new Fuzz(t);
  const before = place.snapshot();
  // Verbs that succeed by luck change nothing in this place: the VM has no uid, and no tool and no program is listed.
  const real = place.helper(false, { programs: { programs: [], dirs: [] }, tools: [] });
  const keys = [
    "call",
    "verb",
    "args",
    "abort",
    "program",
    "isolation",
    "files",
    "writes",
    "__proto__",
    "signal",
  ];
  const harmless = Object.keys(WIRE_VERBS).filter((name) => !["removeJail", "sealMemory"].includes(name));
  for (let round = 0; round < 200; round++) {
    const served = await serve(t, real);
    served.socket.on("error", () => {}).resume();
    for (let call = 1; call <= 10; call++) {
      const args = fuzz.oneIn(2) ? [VM, fuzz.value(keys)] : [fuzz.value(keys)];
      const message = fuzz.oneIn(5) ? fuzz.value(keys) : { call, verb: fuzz.pick(harmless), args };
      const bytes = Buffer.from(JSON.stringify(message) ?? "");
      served.socket.write(Buffer.concat([fuzz.oneIn(3) ? fuzz.mutated(bytes) : bytes, Buffer.from("\n")]));
    }
    served.socket.end();
    await served.served;
    assert.deepEqual(
      served.troubles.filter((trouble) => !(trouble instanceof HearthError)),
      [],
    );
  }
  assert.deepEqual(place.snapshot(), before);
});

test("when hearthd ends, its calls are aborted, its VMMs run on, and one that it cannot know of is ended", async (t) => {
  using place = new HelperPlace();
  const verbs = place.helper(isRoot);
  const aborted = Promise.withResolvers<void>();
  const launching = Promise.withResolvers<void>();
  const waiting = port({
    launchVmm: async (vm, launch, signal) => {
      if (launch.priority === "foreground") return verbs.launchVmm(vm, launch, signal);
      launching.resolve();
      await untilAborted(signal).catch(() => aborted.resolve());
      return (late = await verbs.launchVmm(vm, launch, signal));
    },
  });
  let late: Awaited<ReturnType<PrivilegedPort["launchVmm"]>> | undefined;
  const { client, served } = await serveClient(t, waiting);
  const { process: vmm } = await client.launchVmm(VM, SLEEP, never);
  assert.ok(vmm);
  t.after(() => endProcess(vmm, 0, never));
  const unheard = client.launchVmm(VM, { ...SLEEP, priority: "background" }, never);
  const refused = assert.rejects(unheard, { code: "host.helper_gone" });
  await launching.promise;
  client.close();
  await Promise.all([refused, aborted.promise, served]);
  assert.ok(isAlive(vmm));
  assert.ok(late?.process !== undefined && !isAlive(late.process));
  await assert.rejects(client.uidOf(VM), { code: "host.helper_gone" });
});

for (const [what, line] of Object.entries({
  garbage: "x\n",
  "an answer to no call": '{"call":9}\n',
  "a second answer": '{"call":1,"result":[]}\n{"call":1,"result":[]}\n',
})) {
  test(`a helper that sends ${what} counts as gone`, async (t) => {
    const [socket, helper] = await socketPair(t);
    const client = new PortClient(socket);
    const call = client.listJails().catch((error: unknown) => error);
    helper.write(line);
    assert.equal((await client.gone).code, "host.helper_gone");
    await call;
    await assert.rejects(client.listJails(), { code: "host.helper_gone" });
  });
}

test("an answer that the verb cannot have fails its call", async (t) => {
  const served = await serveClient(t, port({ uidOf: () => Promise.resolve("root" as never) }));
  await assert.rejects(served.client.uidOf(VM), { code: "input.invalid", message: /uidOf/ });
});

/** Makes a port with these verbs; the others must not be called. */
function port(verbs: Partial<PrivilegedPort>): PrivilegedPort {
  const others = Object.fromEntries(
    Object.keys(WIRE_VERBS).map((name) => [
      name,
      () => Promise.reject(new HearthError("feature.missing", name)),
    ]),
  );
  return { ...(others as unknown as PrivilegedPort), ...verbs };
}

function untilAborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  if (signal.aborted) reject(signal.reason);
  signal.addEventListener("abort", () => reject(signal.reason));
  return promise;
}

function send({ socket }: ServedPort, message: unknown): void {
  socket.write(`${JSON.stringify(message)}\n`);
}

type Answered = { readonly call?: number; readonly result?: unknown; readonly error?: { code: string } };

function readAnswers({ socket }: ServedPort): { next(): Promise<Answered> } {
  let text = "";
  const chunks = socket[Symbol.asyncIterator]();
  return {
    async next() {
      while (!text.includes("\n")) text += String((await chunks.next()).value);
      const end = text.indexOf("\n");
      const line = text.slice(0, end);
      text = text.slice(end + 1);
      return JSON.parse(line) as Answered;
    },
  };
}
