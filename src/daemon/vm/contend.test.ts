/** Begins a second action on a VM after each effect of every flow. */
import assert from "node:assert/strict";
import { contendTest } from "#testing/crash-story.ts";
import type { Contender } from "#testing/crash-story.ts";
import { FLOW_STORIES } from "#testing/flow-stories.ts";

const kill: Contender = {
  act: ({ vms }) => vms.kill("web", "kill", vms.background()),
  promised: ({ host }) => {
    const id = host.store.findVm("web")?.id;
    const vmms = host.machine.vmms.running().filter(({ plan }) => plan.id === id);
    assert.deepEqual(vmms, [], "it has no VMM");
  },
};
const removal: Contender = {
  act: ({ vms }) => vms.remove("web", true, vms.background()),
  promised: ({ host }) => assert.equal(host.store.findVm("web"), undefined),
};

for (const story of FLOW_STORIES) {
  const { what, flows, act } = story;
  contendTest(`a VM that is killed at any moment of ${what} has no VMM, and keeps its disk`, story, kill);
  contendTest(`a VM that is removed at any moment of ${what} leaves nothing behind`, story, removal);
  // The other actions consist of these.
  if (flows.length === 1) contendTest(`${what} that is asked for twice at once is done once`, story, { act });
}
