/**
 * Records what flows have begun and done, so that a restarted hearthd can undo or finish them.
 *
 * "started" is written before the work: after a crash it means "may have happened". It is on the disk before the work
 * begins, and the end of a flow is on the disk before its result is reported. "done" and "undone" do not wait for the
 * disk: if a power cut loses one, the step is undone or finished once more, and both may be done twice.
 */
import type { OperationId, VmId } from "#model/ids.ts";
import type { Store } from "#daemon/store/store.ts";

export type FlowKind = "create" | "start" | "stop" | "remove" | "snapshot" | "finalize" | "policy";
export type StepEvent = "started" | "done" | "undone";

export type Journal = {
  /** Writes an event. Does nothing once the journal has ended. */
  write(step: string, event: StepEvent): void;
};

/** A flow that had not ended when hearthd did. */
export type OpenFlow = {
  readonly id: OperationId;
  readonly kind: FlowKind;
  readonly vmId: VmId;
  /** The flow's plan: what it needs beside the VM's row. */
  readonly context: unknown;
  /** The last event of each step, in the order in which the steps began. */
  readonly steps: ReadonlyMap<string, StepEvent>;
};

/** Called after each write; crash tests end the process in it. */
export type OnJournal = (kind: FlowKind, step: string, event: StepEvent) => void;

/** The journals of all flows, in the store's file. */
export class Journals {
  readonly #store: Store;
  readonly #onWrite: OnJournal;

  constructor(store: Store, onWrite: OnJournal = () => {}) {
    this.#store = store;
    this.#onWrite = onWrite;
  }

  /** Opens the journal of a flow. A snapshot and another flow of one VM may be open at the same time. */
  open(id: OperationId, kind: FlowKind, vmId: VmId, context: unknown): Journal & Disposable {
    const sql = "INSERT INTO flows (id, kind, vm_id, context, started_at_ms) VALUES (?, ?, ?, ?, ?)";
    this.#store.beginFlow(() => {
      this.#store.statement(sql).run(id, kind, vmId, JSON.stringify(context), Date.now());
    }, makesRoom(kind));
    return this.#journal(id, kind, 0);
  }

  /** Opens the journal of a flow again that an earlier hearthd had opened. */
  reopen(flow: OpenFlow): Journal & Disposable {
    const row = this.#store
      .statement("SELECT max(seq) AS seq FROM flow_steps WHERE flow_id = ?")
      .get(flow.id);
    return this.#journal(flow.id, flow.kind, Number(row?.["seq"] ?? 0));
  }

  /** Ends the journal of this VM's flow in the transaction of its commit: both are stored, or neither. */
  end(kind: FlowKind, vmId: VmId): void {
    this.#store.statement("DELETE FROM flows WHERE kind = ? AND vm_id = ?").run(kind, vmId);
  }

  /** Lists the open flows in the order in which they began, also where the host's clock was set meanwhile. */
  listOpen(): OpenFlow[] {
    const flows = this.#store.statement("SELECT id, kind, vm_id, context FROM flows ORDER BY rowid").all();
    const steps = this.#store.statement("SELECT step, event FROM flow_steps WHERE flow_id = ? ORDER BY seq");
    return flows.map((row) => ({
      id: row["id"] as OperationId,
      kind: row["kind"] as FlowKind,
      vmId: row["vm_id"] as VmId,
      context: parseContext(String(row["context"])),
      steps: new Map(
        steps.all(String(row["id"])).map((step) => [String(step["step"]), step["event"] as StepEvent]),
      ),
    }));
  }

  #journal(id: OperationId, kind: FlowKind, lastSeq: number): Journal & Disposable {
    let seq = lastSeq;
    const insert =
      "INSERT INTO flow_steps (flow_id, seq, step, event, at_ms) SELECT id, ?, ?, ?, ? FROM flows WHERE id = ?";
    return {
      write: (step, event) => {
        this.#store.transaction(() => this.#store.statement(insert).run(++seq, step, event, Date.now(), id), {
          reserve: makesRoom(kind) || event === "undone",
          synced: event === "started",
        });
        this.#onWrite(kind, step, event);
      },
      // Deletes the flow with its steps, however it ended.
      [Symbol.dispose]: () => {
        this.#store.transaction(() => this.#store.statement("DELETE FROM flows WHERE id = ?").run(id), {
          reserve: true,
        });
      },
    };
  }
}

/** Returns undefined for a damaged context: that flow cannot be recovered, and does not keep the others from it. */
function parseContext(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** True for flows that may use the store's reserve on a full disk: those that free space. */
function makesRoom(kind: FlowKind): boolean {
  return kind === "stop" || kind === "remove";
}
