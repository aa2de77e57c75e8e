import { errorBody, toHearthError } from "#base/error.ts";
import type { HearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import type { Io } from "#cli/io.ts";
import { printable, printableLines } from "#base/printable.ts";
import { ProgressView } from "#cli/progress.ts";

export type OutOptions = { readonly json: boolean; readonly quiet: boolean };

/** The width of a terminal that does not report one. Files and pipes get whole lines. */
const DEFAULT_COLUMNS = 80;

/** The output of a command: results on stdout, everything else on stderr. */
export class Out {
  /** True if results are printed as JSON. */
  readonly wantsJson: boolean;
  readonly #io: Io;
  readonly #quiet: boolean;
  #progressView: ProgressView | undefined;

  constructor(io: Io, options: OutOptions) {
    this.#io = io;
    this.wantsJson = options.json;
    this.#quiet = options.quiet;
  }

  /** Prints a line of a text result. */
  line(text: string): void {
    this.#io.stdout.write(`${printable(text)}\n`);
  }

  /** Prints a long text result. On a terminal its further lines are indented by `indent` spaces. */
  async wrapped(text: string, indent: number): Promise<void> {
    const { wrapText } = await import("#cli/wrap-text.ts");
    const width = this.#width() ?? Number.POSITIVE_INFINITY;
    for (const line of wrapText(printable(text), indent, width)) this.line(line);
  }

  /** Prints trusted text of several lines, such as help. */
  text(text: string): void {
    this.#io.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  }

  json(value: unknown): void {
    this.#io.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
  }

  /** Prints one line for each value, for streams of results. */
  jsonLine(value: unknown): void {
    this.#io.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** Loads the rendering of tables, which most commands do without. */
  async table(head: readonly string[], rows: readonly (readonly string[])[]): Promise<void> {
    const { renderTable } = await import("#cli/table.ts");
    this.#io.stdout.write(renderTable(head, rows, this.#width()));
  }

  /** Prints lines of `key  value`. */
  fields(pairs: readonly (readonly [string, string | undefined])[]): void {
    const known = pairs.filter((pair): pair is readonly [string, string] => pair[1] !== undefined);
    const width = Math.max(...known.map(([key]) => key.length));
    for (const [key, value] of known) this.line(`${key.padEnd(width)}  ${value}`);
  }

  /** Prints additional information on stderr. */
  note(text: string): void {
    if (this.#quiet) return;
    this.#progressView?.clear();
    this.#io.stderr.write(`${printableLines(text)}\n`);
  }

  /** Shows the progress of long operations. Undefined if it would not be shown, so that hearthd is not asked for it. */
  get onProgress(): OnProgress | undefined {
    if (this.#quiet) return undefined;
    const { stderr, env } = this.#io;
    this.#progressView ??= new ProgressView(stderr, stderr.isTTY === true && env["TERM"] !== "dumb");
    return this.#progressView.show;
  }

  clearProgress(): void {
    this.#progressView?.clear();
  }

  /** Prints an error: on stderr, or with `--json` as an object on stdout. */
  error(thrown: unknown, about?: string): void {
    this.#progressView?.clear();
    const body = errorBody(thrown, operationOf(thrown));
    if (this.wantsJson) return this.json({ ...(about !== undefined && { name: about }), error: body });
    this.errorForPeople(thrown);
  }

  errorForPeople(thrown: unknown): void {
    this.#progressView?.clear();
    const { code, message, hint, operation } = errorBody(thrown, operationOf(thrown));
    const say = (word: string, text: string): void => {
      const label = this.#colors ? `\u001b[1;${word === "error" ? 31 : 36}m${word}:\u001b[0m` : `${word}:`;
      this.#io.stderr.write(`${label} ${printableLines(text)}\n`);
    };
    say("error", message);
    if (hint !== undefined) say("hint", hint);
    if (operation !== undefined && code !== "input.invalid") say("operation", operation);
  }

  get #colors(): boolean {
    return this.#io.stderr.isTTY === true && !this.#io.env["NO_COLOR"] && this.#io.env["TERM"] !== "dumb";
  }

  #width(): number | undefined {
    if (this.#io.stdout.isTTY !== true) return undefined;
    return this.#io.stdout.columns || DEFAULT_COLUMNS;
  }
}

/** Returns the id of the failed operation, for errors from hearthd. */
function operationOf(error: unknown): string | undefined {
  const { operation } = error as { readonly operation?: unknown };
  return typeof operation === "string" ? operation : undefined;
}

/** Adds the stack trace if HEARTH_DEBUG=1. */
export function withDetails(thrown: unknown, io: Io): HearthError {
  const error = toHearthError(thrown);
  if (io.env["HEARTH_DEBUG"]) {
    const { stack } = error.cause instanceof Error ? error.cause : error;
    io.stderr.write(`${printableLines(stack ?? "")}\n`);
  }
  return error;
}
