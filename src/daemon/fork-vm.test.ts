import assert from "node:assert/strict";
import { forkVm } from "#daemon/fork-vm.ts";
import { crashTest } from "#testing/crash-story.ts";
import { writtenOn } from "#testing/fake-guest.ts";
import { LAYERED } from "#testing/fake-host.ts";

for (const features of [undefined, LAYERED]) {
  const how = features === undefined ? "whole" : "layered";
  crashTest(
    `R5: a hearthd killed while it forks a VM with a ${how} disk finds all copies or none, and the source running`,
    {
      options: { features },
      before: (daemon) => daemon.run("web", 2),
      act: (daemon) => forkVm(daemon, "web", { count: 2 }, daemon.vms.background()),
      includes: ["driver.save", "driver.restore", "guest.configure", "snapshots.delete"],
      after: ({ host }) => {
        const names = host.store.listVms().map(({ name }) => name);
        if (names.length > 1) assert.deepEqual(names.toSorted(), ["web", "web-1", "web-2"]);
        for (const name of names) {
          assert.equal(host.store.getVm(name).state.phase, "running", name);
          assert.equal(writtenOn(host.machine.vmm(name)), 2);
        }
      },
    },
  );
}
