/** Real VMs use the state of an older Hearth, from their disks; src/testing/older-state/README.md lists what it has. */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { before, describe, test } from "node:test";
import { OLDER_TEMPLATES, unpackOlderState } from "#testing/older-state/older-state.ts";
import { Bed } from "./bed.ts";

describe("the state directory of an older Hearth", () => {
  const bed = new Bed({ warm: false, apart: false });
  const mismatch = /snapshot\.mismatch/;

  /** Returns the content of files of a VM, which is started for that and stopped after it. */
  const readIn = async (name: string, ...paths: string[]): Promise<string> => {
    await bed.ok(["start", name]);
    const content = await bed.ok(["exec", name, "--", "cat", ...paths]);
    await bed.ok(["stop", name]);
    return content;
  };

  before(async () => {
    await bed.ok(["image", "build", "debian"]);
    const { digest } = await (await bed.connect()).images.show("debian");
    await bed.ok(["daemon", "stop"]);
    rmSync(bed.dirs.state, { recursive: true });
    mkdirSync(dirname(bed.dirs.state), { recursive: true });
    await unpackOlderState(join(bed.dir, "older"));
    renameSync(join(bed.dir, "older/state"), bed.dirs.state);
    // The older host's image is not here. The disks have what the VMs wrote, and fit on any image of Debian.
    using store = new DatabaseSync(join(bed.dirs.state, "hearth.db"));
    store.prepare("UPDATE vms SET image_digest = ?").run(digest);
    store.prepare("UPDATE snapshots SET record = json_set(record, '$.imageDigest', ?)").run(digest);
  });

  test("has its VMs, its snapshots, its templates and its volume", async () => {
    const vms = (await bed.vms()).map(({ name, phase }) => `${name} ${phase}`).toSorted();
    const older = ["created created", "from-memory stopped", "not-begun created", "resumed stopped"];
    assert.deepEqual(vms, [...older, "running suspended", "stopped stopped"]);
    assert.match(await bed.ok(["snapshot", "ls"]), /disk-alone[^]*with-memory|with-memory[^]*disk-alone/);
    for (const id of OLDER_TEMPLATES) assert.ok((await bed.ok(["template", "ls"])).includes(id));
    assert.equal(await bed.ok(["volume", "ls", "-q"]), "data\n");
  });

  test("has VMs that boot from their disks, with their volume", async () => {
    assert.equal(await readIn("stopped", "/root/file", "/data/file"), "kept-by-stopped\nvolume-data\n");
    assert.equal(await readIn("created", "/data/file"), "volume-data\n");
    assert.equal(await readIn("from-memory", "/root/own"), "own\n");
    assert.equal(await readIn("resumed", "/root/file"), "after-resume\n");
  });

  test("has a suspended VM that is not restored on another machine, and boots from its disk when it is killed", async () => {
    for (const command of ["start", "resume"]) {
      const { code, stdout } = await bed.hearth([command, "running", "--json"]);
      assert.equal(code, 1);
      assert.match(stdout, mismatch);
    }
    assert.equal((await bed.vm("running")).phase, "suspended");
    await bed.ok(["kill", "running"]);
    assert.equal(await readIn("running", "/root/file"), "third\n");
  });

  test("has snapshots from whose disks VMs are made, and memory that is refused", async () => {
    await bed.ok(["create", "--no-start", "--name", "of-disk", "--snapshot", "disk-alone"]);
    assert.equal(await readIn("of-disk", "/root/file"), "kept-by-stopped\n");
    await bed.ok(["create", "--no-start", "--cold", "--name", "of-memory", "--snapshot", "with-memory"]);
    assert.equal(await readIn("of-memory", "/root/file"), "second\n");
    assert.match((await bed.hearth(["start", "not-begun", "--json"])).stdout, mismatch);
  });

  test("has templates and snapshots that can be removed, and nothing of them is left", async () => {
    await bed.ok(["template", "rm", OLDER_TEMPLATES[0]]);
    await bed.ok(["template", "prune"]);
    await bed.ok(["rm", "-f", ...(await bed.vms()).map(({ name }) => name)]);
    await bed.ok(["snapshot", "rm", "disk-alone", "with-memory"]);
    for (const kind of ["vms", "snapshots"]) assert.deepEqual(readdirSync(join(bed.dirs.state, kind)), []);
  });
});
