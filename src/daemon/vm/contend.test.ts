/** A second action on a VM begins after each effect of the first. */
import { contendTest } from "#testing/crash-story.ts";
import type { CrashStory } from "#testing/crash-story.ts";
import type { FakeDaemon } from "#testing/fake-daemon.ts";

const STOP = { mode: "graceful", timeoutMs: 1_000 } as const;

const creates = ({ vms }: FakeDaemon): Promise<unknown> =>
  vms.create({ name: "web", image: "debian" }, false, vms.background());
const starts = ({ vms }: FakeDaemon): Promise<unknown> => vms.start("web", vms.background());
const stops = ({ vms }: FakeDaemon): Promise<unknown> => vms.stop("web", STOP, vms.background());
const kills = ({ vms }: FakeDaemon): Promise<unknown> => vms.kill("web", "kill", vms.background());
const removes = ({ vms }: FakeDaemon): Promise<unknown> => vms.remove("web", true, vms.background());

const start: CrashStory = { before: creates, act: starts, includes: [] };
const stop: CrashStory = { before: (daemon) => daemon.run("web", 2), act: stops, includes: [] };

contendTest("a start that is killed at any moment leaves one VMM at most, and nothing behind", start, kills);
contendTest("a VM that is removed at any moment of its start leaves nothing behind", start, removes);
contendTest("a VM that is started twice at once has one VMM", start, starts);
contendTest("a VM that is killed at any moment of its stop is stopped, with its disk", stop, kills);
contendTest("a VM that is removed at any moment of its stop leaves nothing behind", stop, removes);
