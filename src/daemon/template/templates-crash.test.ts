import assert from "node:assert/strict";
import { crashTest } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";
import { LAYERED } from "#testing/fake-host.ts";

const config = "warm.enabled = true";

async function makesTemplate(daemon: FakeDaemon): Promise<void> {
  await daemon.run("web");
  // The template is made after the start.
  while (daemon.templates.list().length === 0) {
    await daemon.templates.idle();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await daemon.templates.idle();
}

const isThere =
  (name: string) =>
  ({ host, templates }: FakeDaemon): void => {
    assert.ok(templates.list().length <= 1);
    const vm = host.store.findVm(name);
    if (vm !== undefined) assert.ok(["created", "running"].includes(vm.state.phase), vm.state.phase);
  };

crashTest("killing hearthd while it makes a template leaves it complete or absent", {
  options: { config, features: LAYERED },
  before: async () => {},
  act: makesTemplate,
  includes: ["driver.boot", "driver.save", "driver.finalize", "driver.restore", "snapshots.setReady"],
  after: isThere("web"),
});

for (const features of [undefined, LAYERED]) {
  const disk = features === undefined ? "one file" : "layers";

  crashTest(
    `killing hearthd while a VM starts from a template with a disk in ${disk}: it has started, or has not`,
    {
      options: { config, features },
      before: makesTemplate,
      act: (daemon) => daemon.run("next"),
      includes: ["disks.fromSnapshot", "driver.restore", "guest.configure"],
      after: isThere("next"),
    },
  );
}
