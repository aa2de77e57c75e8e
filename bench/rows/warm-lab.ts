import type { Image } from "#sdk/hearth.ts";
import type { HearthHome } from "../hearth-home.ts";
import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";
import { COLD, Template } from "../template.ts";

/** As lab/lab.ts has them, without the volumes with the checkout. */
const IMAGE = "debian-host:trixie";
const FLAGS = ["--nested", "--init", "systemd", "--memory", "4G", "--disk", "32G"];
const NAME = "bench-lab";

/** `create` of a VM as the lab is, to the end of its first command, against the same that boots. */
export const WARM_LAB: Row = {
  name: "warm-lab",
  async run({ home, pairs, say }) {
    const images = JSON.parse(await home.ask("image", "ls", "--json")) as Image[];
    if (!images.some(({ ref }) => ref === IMAGE)) {
      say(`warm-lab: left out, because there is no image ${IMAGE}: hearth image build ${IMAGE}`);
      return [];
    }
    say("warm-lab: the template");
    const template = await Template.build(home, FLAGS, IMAGE);
    const warm = (): Promise<number> => untilFirstCommand(home, []);
    const cold = (): Promise<number> => untilFirstCommand(home, COLD);
    await interleave(1, warm, cold);
    const measured = await interleave(pairs, warm, cold);
    await template.assertUsed();
    return [{ what: "warm lab, to its first command", unit: "ms", ...measured, bound: { atMost: 0.1 } }];
  },
};

async function untilFirstCommand(home: HearthHome, flags: readonly string[]): Promise<number> {
  const bootMs = await home.hearth("create", "--name", NAME, ...FLAGS, ...flags, IMAGE);
  const execMs = await home.hearth("exec", NAME, "--", "true");
  await home.hearth("rm", "-f", NAME);
  return bootMs + execMs;
}
