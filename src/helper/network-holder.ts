/**
 * Starts, finds and ends the process that holds the namespaces of a VM's network where hearthd is not root: see
 * agent/internal/uplink. The process is the only record of the network. It runs on without hearthd, and what runs in its
 * PID namespace ends with it.
 */
import { basename, dirname, join } from "node:path";
import { HearthError } from "#base/error.ts";
import { TOOL_MS } from "#helper/netns-program.ts";
import { findProgram } from "#host/find-program.ts";
import { endProcess } from "#host/process-end.ts";
import { findProcess, listCommands, readUids, sharesRoot } from "#host/procfs.ts";
import type { ProcessRef } from "#host/procfs.ts";
import { missingTool, runOrThrow } from "#host/run.ts";
import type { VmId } from "#model/ids.ts";
import { INSIDE } from "#model/inside-addresses.ts";

const OWNER_FLAG = "--owner";
/** The verbs of the program: it starts itself with the second. */
const [START, HOLD] = ["start", "hold"];

type Holder = { readonly vm: string; readonly verb: string; readonly process: ProcessRef };

/** The holders of one hearthd. */
export class NetworkHolders {
  readonly #program: string;
  readonly #vms: string;

  /**
   * @param program the absolute path of hearth-uplink
   * @param vms the directory with a directory for each VM, which is in the arguments of its holder
   */
  constructor(program: string, vms: string) {
    this.#program = program;
    this.#vms = vms;
  }

  /** Starts a holder. Its namespaces exist then. @throws HearthError `host.tool_missing`, `host.tool_failed` */
  async start(id: VmId, signal: AbortSignal): Promise<ProcessRef> {
    const nft = findProgram("nft");
    if (nft === undefined) throw missingTool("nft");
    const options = [OWNER_FLAG, join(this.#vms, id), "--card", INSIDE.tap, "--nft", nft];
    const printed = await runOrThrow(this.#program, [START, ...options], { timeoutMs: TOOL_MS, signal });
    const holder = findProcess(Number(printed));
    if (holder !== undefined) return holder;
    throw new HearthError("host.tool_failed", `The holder of the network of ${id} has ended.`);
  }

  find(id: VmId): ProcessRef | undefined {
    return this.#all().find(({ vm, verb }) => vm === id && verb === HOLD)?.process;
  }

  /** Lists the VMs that have one, or get one just now. */
  list(): string[] {
    return [...new Set(this.#all().map(({ vm }) => vm))];
  }

  /** Ends all holders of the VM, one of which may be started just now for a hearthd that was killed. Idempotent. */
  async end(id: VmId, signal: AbortSignal): Promise<void> {
    for (;;) {
      const left = this.#all().filter(({ vm }) => vm === id);
      if (left.length === 0) return;
      // First what starts another one.
      for (const { process } of left.toSorted((one, other) => other.verb.localeCompare(one.verb)))
        await endProcess(process, 0, signal);
    }
  }

  /**
   * Finds the processes by their arguments, which any process may have. A VMM has other root directories, and other
   * users have other uids.
   */
  #all(): Holder[] {
    return listCommands().flatMap(({ pid, argv }) => {
      const [program = "", verb = "", ...options] = argv;
      if (![START, HOLD].includes(verb) || basename(program) !== basename(this.#program)) return [];
      const owner = options[0] === OWNER_FLAG ? (options[1] ?? "") : "";
      if (dirname(owner) !== this.#vms || !isOurs(pid)) return [];
      const process = findProcess(pid);
      return process === undefined ? [] : [{ vm: basename(owner), verb, process }];
    });
  }
}

/** Tells whether a process has the uid and the root directory of this one. */
function isOurs(pid: number): boolean {
  const uids = readUids(pid);
  return uids.length > 0 && uids.every((uid) => uid === process.geteuid?.()) && sharesRoot(pid);
}
