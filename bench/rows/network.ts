import { interleave } from "../pairs.ts";
import type { Row } from "../row.ts";
import { MEMORY, Template } from "../template.ts";

const RULES = 20;
const MANY_RULES = 1_000;
const NAME = "bench-network";

/** Measures what a network costs: a warm run with one, and a change of its policy while the VM runs. Needs root. */
export const NETWORK: Row = {
  name: "network",
  async run({ home, pairs, say }) {
    if (process.geteuid?.() !== 0) {
      say("network: VMs of a hearthd that is not root have none of their own");
      return [];
    }
    const networked = [...MEMORY, "--network", "nat"];
    const templates = [await Template.build(home, MEMORY), await Template.build(home, networked)];
    const rules = Array.from({ length: RULES }, (_, at) => ["--allow-cidr", `10.${at}.0.0/16:443`]).flat();
    const run = (flags: readonly string[]): Promise<number> =>
      home.hearth("run", "--rm", ...flags, "debian", "--", "true");
    const ours = (): Promise<number> => run([...networked, ...rules]);
    const other = (): Promise<number> => run(MEMORY);
    await interleave(1, ours, other);
    const runs = await interleave(pairs, ours, other);
    for (const template of templates) await template.assertUsed();

    await home.hearth("create", "--name", NAME, ...networked, "debian");
    const vm = (await home.connect()).vm(NAME);
    const changes: number[] = [];
    for (let change = 0; change < pairs; change++) {
      const to = (at: number): string => `10.${change}.${at >> 8}.${at & 0xff}/32`;
      const allowed = Array.from(
        { length: MANY_RULES },
        (_, at) => ({ action: "allow", to: to(at) }) as const,
      );
      const startedAt = performance.now();
      await vm.set({ policy: { default: "deny", rules: allowed } });
      changes.push(performance.now() - startedAt);
    }
    await vm.remove({ force: true });
    return [
      { what: `warm run, nat and ${RULES} rules`, unit: "ms", ...runs, bound: { atMost: 1.1 } },
      { what: `live change to ${MANY_RULES} rules`, unit: "ms", ours: changes, bound: { atMost: 100 } },
    ];
  },
};
