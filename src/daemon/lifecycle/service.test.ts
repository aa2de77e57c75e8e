import assert from "node:assert/strict";
import { test } from "node:test";
import type { Log } from "#base/log.ts";
import { Services } from "#daemon/lifecycle/service.ts";
import type { Service } from "#daemon/lifecycle/service.ts";

const NEVER = new Promise<never>(() => {});
/** Deadlines without a wait: what is late is late at once, and what is in time has all the time that it needs. */
const SOON = { drainMs: 20, stopMs: 20 };
const AMPLE = { drainMs: 60_000, stopMs: 60_000 };

/** Services that note each of their steps, with some steps replaced. */
class Story {
  readonly steps: string[] = [];
  readonly logged: { readonly name: string; readonly fields: object }[] = [];
  readonly services: Services;

  constructor(...changes: readonly (Pick<Service, "name"> & Partial<Service>)[]) {
    const log: Log = { event: (name, fields) => void this.logged.push({ name, fields }), child: () => log };
    this.services = new Services(
      changes.map((change) => this.#service(change)),
      log,
    );
  }

  #service({ name, ...change }: Service): Service {
    const note =
      (step: "start" | "drain" | "stop" | "abandon") =>
      async (above: Promise<void> = Promise.resolve()): Promise<void> => {
        this.steps.push(`${step} ${name}`);
        await change[step]?.(above);
      };
    return { name, start: note("start"), drain: note("drain"), stop: note("stop"), abandon: note("abandon") };
  }
}

const fails = async (): Promise<never> => {
  throw new Error("the disk is full");
};

test("services start in order, and drain and stop in reverse", async () => {
  const story = new Story({ name: "store" }, { name: "VMs" }, { name: "API" });
  await story.services.start();
  assert.equal(await story.services.end(AMPLE), true);
  assert.deepEqual(story.steps, [
    "start store",
    "start VMs",
    "start API",
    "drain API",
    "drain VMs",
    "drain store",
    "stop API",
    "stop VMs",
    "stop store",
  ]);
  assert.deepEqual(story.logged, []);
});

test("a service can wait until all that started later have drained", async () => {
  const api = Promise.withResolvers<void>();
  const seen: string[] = [];
  const story = new Story(
    { name: "VMs", drain: (above) => above.then(() => void seen.push("VMs")) },
    { name: "API", drain: () => api.promise.then(() => void seen.push("API")) },
    { name: "pools", drain: fails },
  );
  await story.services.start();
  const ended = story.services.end(AMPLE);
  api.resolve();
  assert.equal(await ended, true);
  assert.deepEqual(seen, ["API", "VMs"]);
});

test("a service that fails to drain or to stop is logged, and the others end all the same", async () => {
  const story = new Story({ name: "store" }, { name: "VMs", stop: fails }, { name: "pools", drain: fails });
  await story.services.start();
  assert.equal(await story.services.end(AMPLE), true);
  assert.deepEqual(story.steps.slice(-3), ["stop pools", "stop VMs", "stop store"]);
  assert.deepEqual(
    story.logged.map(({ name, fields }) => [name, { ...fields, error: undefined }]),
    [
      ["service.failed", { service: "pools", step: "drain", error: undefined }],
      ["service.failed", { service: "VMs", step: "stop", error: undefined }],
    ],
  );
});

test("when a service does not drain in time, nothing is stopped, and those who wait are told", async () => {
  const story = new Story({ name: "store" }, { name: "API", drain: () => NEVER }, { name: "pools" });
  await story.services.start();
  assert.equal(await story.services.end(SOON), false);
  assert.deepEqual(story.steps.slice(-3), ["abandon pools", "abandon API", "abandon store"]);
  assert.deepEqual(story.logged, [{ name: "daemon.abandoned", fields: { late: "API" } }]);
});

test("when a service does not stop in time, nothing below it is stopped", async () => {
  const story = new Story({ name: "store" }, { name: "API", stop: () => NEVER }, { name: "pools" });
  await story.services.start();
  assert.equal(await story.services.end(SOON), false);
  assert.deepEqual(story.steps.slice(-4), ["stop pools", "stop API", "abandon API", "abandon store"]);
  assert.deepEqual(story.logged, [{ name: "daemon.abandoned", fields: { late: "API" } }]);
});

test("when a service cannot start, those before it end, those after it never start, and its error is thrown", async () => {
  const story = new Story(
    { name: "store" },
    { name: "VMs" },
    { name: "API", start: fails },
    { name: "pools" },
  );
  await assert.rejects(story.services.start(), /the disk is full/);
  assert.deepEqual(story.steps, [
    "start store",
    "start VMs",
    "start API",
    "drain VMs",
    "drain store",
    "stop VMs",
    "stop store",
  ]);
});
