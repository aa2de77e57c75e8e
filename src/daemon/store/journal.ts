/**
 * What flows have begun and done, so that a hearthd that was killed can take it back or go on.
 * "started" is written before the work: after a crash it means "may have happened". It is on the disk before the work
 * begins, and the end of a flow is before anybody hears of it. "done" and "undone" do not wait for the disk: where a
 * power cut takes one, the step is undone or finished once more, and both may be done twice.
 */
import type { OperationId, VmId } from "#model/ids.ts";
import type { Store } from "#daemon/store/store.ts";

export type FlowKind = "create" | "start" | "stop" | "remove" | "snapshot" | "settle";
export type StepEvent = "started" | "done" | "undone";

export type Journal = {
  /** Nothing is written once the journal has ended. */
  write(step: string, event: StepEvent): void;
};

/** A flow that had not ended when hearthd did. */
export type OpenFlow = {
  readonly id: OperationId;
  readonly kind: FlowKind;
  readonly vmId: VmId;
  /** What the flow needs beside the VM's row; see each flow. */
  readonly context: unknown;
  /** The last event of each step, in the order of their first. */
  readonly steps: ReadonlyMap<string, StepEvent>;
};

/** Called after each write; crash tests end the process in here. */
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

  /** The journal of a flow that an earlier hearthd had opened. */
  reopen(flow: OpenFlow): Journal & Disposable {
    const row = this.#store
      .statement("SELECT max(seq) AS seq FROM flow_steps WHERE flow_id = ?")
      .get(flow.id);
    return this.#journal(flow.id, flow.kind, Number(row?.["seq"] ?? 0));
  }

  /** Ends the journal of this VM's flow in the transaction of its commit: both are true, or neither. */
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
      // The flow has ended, one way or the other: nothing is open any more.
      [Symbol.dispose]: () => {
        this.#store.transaction(() => this.#store.statement("DELETE FROM flows WHERE id = ?").run(id), {
          reserve: true,
        });
      },
    };
  }
}

/** Undefined for one that is damaged: that flow cannot be recovered, and does not hold up the others. */
function parseContext(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** What may take the store's reserve on a full disk: the way out of it, never more of what filled it. */
function makesRoom(kind: FlowKind): boolean {
  return kind === "stop" || kind === "remove";
}
