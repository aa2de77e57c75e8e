import { statSync } from "node:fs";
import { join } from "node:path";
import { BareVm } from "../bare-vm.ts";
import type { Row } from "../row.ts";
import { execThrough, zeros } from "../transfer.ts";

const MIB = 1024 ** 2;
const EXECS = 20;
const TRANSFER_BYTES = 100 * MIB;
const BUILD = join(import.meta.dirname, "../../build/agent");

/** The agent's size, on disk and in a guest that has worked. */
export const AGENT: Row = {
  name: "agent",
  async run({ home, shape }) {
    const binaries = ["x86_64", "aarch64"].map(
      (arch) => statSync(join(BUILD, `hearth-agent-${arch}`)).size / MIB,
    );
    await using vm = await BareVm.prepare(home, shape);
    await vm.boot();
    for (let done = 0; done < EXECS; done++) await execThrough(vm.agent, ["true"]);
    await execThrough(vm.agent, ["sh", "-c", "cat >/dev/null"], zeros(TRANSFER_BYTES));
    const { agentRssBytes } = await vm.agent.info(new AbortController().signal);
    return [
      { what: "agent binary", unit: "MiB", ours: [Math.max(...binaries)], bound: { atMost: 12 } },
      { what: "agent RSS after 100 MiB", unit: "MiB", ours: [agentRssBytes / MIB], bound: { atMost: 20 } },
    ];
  },
};
