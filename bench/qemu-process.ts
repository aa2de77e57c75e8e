/** A QEMU of our own, with nothing of Hearth around it. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { qemuProgram } from "./qemu-program.ts";

/** Disposing of it kills it, and resolves when it is gone. */
export class QemuProcess implements AsyncDisposable {
  /** Aborts when it ends, with the reason. */
  readonly ended: AbortSignal;
  readonly #child: ChildProcess;

  constructor(args: readonly string[]) {
    this.#child = spawn(qemuProgram(), args, { stdio: "ignore" });
    const ended = new AbortController();
    this.#child.once("error", (error) => ended.abort(error));
    this.#child.once("exit", (code) => ended.abort(new Error(`QEMU ended with ${code}.`)));
    this.ended = ended.signal;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.ended.aborted) return;
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await gone;
  }
}
