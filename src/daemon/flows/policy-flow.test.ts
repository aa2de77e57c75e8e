import { FLOW_STORIES } from "#testing/flow-stories.ts";
import { crashTest, crashTwiceTest } from "#testing/crash-story.ts";

const story = FLOW_STORIES.find(({ flows }) => flows.includes("policy"));
if (story === undefined) throw new Error("There is no story of a policy.");

const includes = ["helper.setNetworkPolicy", 'journal: policy, "store the policy" started', "store.setSpec"];

crashTest("killing hearthd while a network policy changes leaves that of the row in force", {
  ...story,
  includes,
});

crashTwiceTest("killing hearthd again while it recovers a network policy leaves that of the row in force", {
  ...story,
  includes: includes.slice(0, 1),
});
