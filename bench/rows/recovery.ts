import { FakeMachine } from "#testing/fake-host.ts";
import { ServedDaemon } from "#testing/served-daemon.ts";
import type { Row } from "../row.ts";

const VMS = 200;
const STARTS = 5;

/** hearthd on a host where VMs run: how long until it answers, and until all VMs are recovered. Guests are fakes. */
export const RECOVERY: Row = {
  name: "recovery",
  async run({ say }) {
    using machine = new FakeMachine();
    say(`recovery: ${VMS} VMs`);
    const first = await new ServedDaemon(machine).listen();
    for (let at = 0; at < VMS; at++) await first.run(`vm-${at}`);
    await first.end();
    const answers: number[] = [];
    const recovered: number[] = [];
    for (let start = 0; start < STARTS; start++) {
      const startedMs = performance.now();
      const next = await new ServedDaemon(machine).answering();
      const found = await (await next.client()).vms.list();
      answers.push(performance.now() - startedMs);
      if (found.length !== VMS) throw new Error(`hearthd knows of ${found.length} VMs, not of ${VMS}.`);
      await next.daemon.vms.idle();
      recovered.push(performance.now() - startedMs);
      await next.end();
    }
    return [
      { what: `answers beside ${VMS} VMs`, unit: "ms", ours: answers, bound: { atMost: 1_000 } },
      { what: `${VMS} VMs recovered`, unit: "ms", ours: recovered, bound: { atMost: 5_000 } },
    ];
  },
};
