/** hearthd is told to end after each effect of every flow. */
import { endTest } from "#testing/end-story.ts";
import { FLOW_STORIES } from "#testing/flow-stories.ts";

for (const story of FLOW_STORIES) endTest(story);
