import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import type { ApiEvent } from "#api/events.ts";
import { Firecrackers } from "#drivers/firecracker/install/firecrackers.ts";
import { localApi } from "#testing/local-api.ts";
import { daemonOver } from "#testing/fake-daemon.ts";
import { FakeHost, FakeMachine } from "#testing/fake-host.ts";
import { releaseMembers, ReleaseServer } from "#testing/release-server.ts";

test(
  "a release is installed over the API with its progress, and then listed as the one that is used",
  { skip: process.arch !== "x64" },
  async (t) => {
    using machine = new FakeMachine();
    await using site = await ReleaseServer.start();
    const cacheDir = join(machine.dir, "cache");
    const firecrackers = new Firecrackers({ cacheDir, releaseUrl: site.url, path: "" });
    const host = new FakeHost(machine, { firecrackers });
    t.after(() => host.store.close());
    const api = localApi(daemonOver(host));
    const events: ApiEvent[] = [];
    host.bus.subscribe((event) => void events.push(event));
    const install = (version?: string) =>
      api.request("/v1/firecracker", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ version }),
      });
    assert.equal((await install()).status, 502, "the site has nothing yet");
    assert.equal((await install("1.0.0")).status, 400);
    assert.deepEqual(await (await api.request("/v1/firecracker")).json(), []);
    await site.publish("1.13.4", releaseMembers("1.13.4"));
    const installed = (await (await install()).json()) as { version: string; fresh: boolean };
    assert.deepEqual([installed.version, installed.fresh], ["1.13.4", true]);
    const told = events.flatMap((event) => (event.type === "progress" ? [event.progress.text] : []));
    assert.ok(told.includes("downloading firecracker-v1.13.4-x86_64.tgz"), told.join("\n"));
    const [used] = (await (await api.request("/v1/firecracker")).json()) as Record<string, unknown>[];
    const { version, source, used: isUsed, mode } = used ?? {};
    assert.deepEqual([version, source, isUsed, mode], ["1.13.4", "installed", true, 0o755]);
  },
);
