import { closeSync, constants, openSync } from "node:fs";
import { openFifoForProgram } from "#host/fifo.ts";
import type { VmmLaunch, VmmStdio } from "#jail/vmm-launch.ts";

/** Functions that open a VMM's files. */
export type OpenFile = {
  readonly stdin: (path: string) => number;
  readonly stdout: (path: string) => number;
  readonly log: (path: string) => number;
};

/** Opens files with the rights of this process, in any directory. */
export const OPEN_ANYWHERE: OpenFile = {
  stdin: (path) => openSync(path, constants.O_RDONLY),
  stdout: openFifoForProgram,
  log: (path) => openSync(path, "a", 0o600),
};

/** The open files of a VMM that is started. Disposal closes them; the VMM has its own descriptors by then. */
export class OpenStdio implements VmmStdio, Disposable {
  readonly stdin: number | undefined;
  readonly stdout: number | undefined;
  readonly log: number;
  readonly #opened: number[] = [];

  /** @throws what `open` throws; nothing stays open then */
  constructor({ stdin, stdout, logFile }: Pick<VmmLaunch, "stdin" | "stdout" | "logFile">, open: OpenFile) {
    try {
      this.log = this.#keep(open.log(logFile));
      this.stdin = stdin === undefined ? undefined : this.#keep(open.stdin(stdin));
      this.stdout = stdout === undefined ? undefined : this.#keep(open.stdout(stdout));
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.#opened.splice(0)) closeSync(fd);
  }

  #keep(fd: number): number {
    this.#opened.push(fd);
    return fd;
  }
}
