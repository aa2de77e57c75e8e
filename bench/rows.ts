import { AGENT } from "./rows/agent.ts";
import { BEFORE } from "./rows/before.ts";
import { COMMANDS_BEFORE } from "./rows/commands-before.ts";
import { CP } from "./rows/cp.ts";
import { CREATE } from "./rows/create.ts";
import { EXEC } from "./rows/exec.ts";
import { FORK } from "./rows/fork.ts";
import { IDLE } from "./rows/idle.ts";
import { LS } from "./rows/ls.ts";
import { NAMESPACES } from "./rows/namespaces.ts";
import { NETWORK } from "./rows/network.ts";
import { PAUSE } from "./rows/pause.ts";
import { POOL } from "./rows/pool.ts";
import { RECOVERY } from "./rows/recovery.ts";
import { RUN } from "./rows/run.ts";
import { SHARED_DISK } from "./rows/shared-disk.ts";
import { SHARED_MEMORY } from "./rows/shared-memory.ts";
import { TRAFFIC } from "./rows/traffic.ts";
import { VERSION } from "./rows/version.ts";
import { WARM_BARE } from "./rows/warm-bare.ts";
import { WARM_LAB } from "./rows/warm-lab.ts";
import { WARM } from "./rows/warm.ts";
import type { Row } from "./row.ts";

/** In the order of the table. */
export const ROWS: readonly Row[] = [
  RUN,
  EXEC,
  VERSION,
  IDLE,
  CREATE,
  AGENT,
  LS,
  RECOVERY,
  CP,
  WARM,
  WARM_BARE,
  NETWORK,
  NAMESPACES,
  TRAFFIC,
  POOL,
  FORK,
  PAUSE,
  SHARED_MEMORY,
  SHARED_DISK,
  BEFORE,
  COMMANDS_BEFORE,
  WARM_LAB,
];

/** The rows of these names, in the table's order; all for none. @throws for a name that no row has. */
export function chooseRows(names: readonly string[]): readonly Row[] {
  const unknown = names.find((name) => !ROWS.some((row) => row.name === name));
  if (unknown !== undefined) {
    throw new Error(`"${unknown}" is not measured; there are ${ROWS.map(({ name }) => name).join(", ")}.`);
  }
  return names.length === 0 ? ROWS : ROWS.filter(({ name }) => names.includes(name));
}
