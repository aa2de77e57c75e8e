/** The base of Firecracker's next save is the memory of the last save, or absent. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { MemoryBase } from "#drivers/firecracker/memory-base.ts";
import { VM_NAMES } from "#base/file-names.ts";
import { crashAtEachEffect } from "#testing/crash-points.ts";

type Place = {
  readonly stateDir: string;
  readonly memory: string;
  readonly draft: string;
  readonly base: MemoryBase;
};

function placesIn(t: TestContext): () => Place {
  const top = mkdtempSync(join(tmpdir(), "hearth-base-"));
  t.after(() => rmSync(top, { recursive: true }));
  let made = 0;
  return () => {
    const stateDir = join(top, String((made += 1)));
    mkdirSync(join(stateDir, "save"), { recursive: true });
    const memory = join(stateDir, "saved");
    writeFileSync(memory, "the memory of the last save");
    return { stateDir, memory, draft: join(stateDir, "save/memory"), base: new MemoryBase(stateDir) };
  };
}

/** Returns the contents of the file that the next save would write changes into; undefined without a base. */
async function baseOf({ stateDir, draft }: Place, t: TestContext): Promise<string | undefined> {
  rmSync(draft, { force: true });
  const hasBase = await new MemoryBase(stateDir).copyTo(draft, async () => {}, t.signal);
  assert.equal(hasBase, existsSync(draft));
  return hasBase ? readFileSync(draft, "utf8") : undefined;
}

test("a kill while a base is stored leaves a whole base or none", async (t) => {
  const newPlace = placesIn(t);
  for (const keep of [
    (place: Place) => place.base.keepCopy(place.memory, t.signal),
    (place: Place) => place.base.keepMapped(place.memory),
  ]) {
    await crashAtEachEffect({
      prepare: async () => {
        const place = newPlace();
        writeFileSync(join(place.stateDir, "memory.base"), "an older one");
        return place;
      },
      operation: keep,
      check: async (place) =>
        assert.ok([undefined, "the memory of the last save"].includes(await baseOf(place, t))),
    });
  }
});

test("a kill while a save begins leaves the base for the next save", async (t) => {
  const newPlace = placesIn(t);
  await crashAtEachEffect({
    prepare: async () => {
      const place = newPlace();
      await place.base.keepCopy(place.memory, t.signal);
      return place;
    },
    operation: ({ base, draft }) => base.copyTo(draft, async () => {}, t.signal),
    check: async (place) => assert.equal(await baseOf(place, t), "the memory of the last save"),
  });
});

test("the VMM owns a copy before it is in the VMM's directory", async (t) => {
  const place = placesIn(t)();
  await place.base.keepCopy(place.memory, t.signal);
  let given = 0;
  const give = async (): Promise<void> => {
    given += 1;
    assert.equal(
      readFileSync(join(place.stateDir, VM_NAMES.memoryBaseCopy), "utf8"),
      "the memory of the last save",
    );
    assert.ok(!existsSync(place.draft));
  };
  assert.equal(await place.base.copyTo(place.draft, give, t.signal), true);
  assert.equal(given, 1);
  const refuses = (): Promise<void> => Promise.reject(new Error("no such uid"));
  rmSync(place.draft);
  await assert.rejects(place.base.copyTo(place.draft, refuses, t.signal), /no such uid/);
  assert.ok(!existsSync(place.draft) && !existsSync(join(place.stateDir, VM_NAMES.memoryBaseCopy)));
});
