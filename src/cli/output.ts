import { errorBody, toHearthError } from "#base/error.ts";
import type { HearthError } from "#base/error.ts";
import type { OnProgress } from "#base/progress.ts";
import type { Io } from "#cli/io.ts";
import { printable, printableLines } from "#base/printable.ts";
import { ProgressView } from "#cli/progress.ts";

export type OutOptions = { readonly json: boolean; readonly quiet: boolean };

/** Of a terminal that does not say its width. Files and pipes get whole lines. */
const DEFAULT_COLUMNS = 80;

/** What a command says: results on stdout, everything else on stderr. */
export class Out {
  /** Results are JSON. */
  readonly wantsJson: boolean;
  readonly #io: Io;
  readonly #quiet: boolean;
  #progressView: ProgressView | undefined;

  constructor(io: Io, options: OutOptions) {
    this.#io = io;
    this.wantsJson = options.json;
    this.#quiet = options.quiet;
  }

  /** A result for people. */
  line(text: string): void {
    this.#io.stdout.write(`${printable(text)}\n`);
  }

  /** A result in words: on a terminal, further lines of it begin with `indent` blanks. */
  async wrapped(text: string, indent: number): Promise<void> {
    const { wrapText } = await import("#cli/wrap-text.ts");
    const width = this.#width() ?? Number.POSITIVE_INFINITY;
    for (const line of wrapText(printable(text), indent, width)) this.line(line);
  }

  /** Text of several lines that is ours, such as help. */
  text(text: string): void {
    this.#io.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  }

  json(value: unknown): void {
    this.#io.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
  }

  /** One line per value, for streams of results. */
  jsonLine(value: unknown): void {
    this.#io.stdout.write(`${JSON.stringify(value)}\n`);
  }

  /** Loads the rendering of tables, which most commands do without. */
  async table(head: readonly string[], rows: readonly (readonly string[])[]): Promise<void> {
    const { renderTable } = await import("#cli/table.ts");
    this.#io.stdout.write(renderTable(head, rows, this.#width()));
  }

  /** `key  value` lines. */
  fields(pairs: readonly (readonly [string, string | undefined])[]): void {
    const known = pairs.filter((pair): pair is readonly [string, string] => pair[1] !== undefined);
    const width = Math.max(...known.map(([key]) => key.length));
    for (const [key, value] of known) this.line(`${key.padEnd(width)}  ${value}`);
  }

  /** Something good to know, not a result. */
  note(text: string): void {
    if (this.#quiet) return;
    this.#progressView?.clear();
    this.#io.stderr.write(`${printableLines(text)}\n`);
  }

  /** For long work; undefined when nobody wants to see it, so that nobody asks hearthd for it. */
  get onProgress(): OnProgress | undefined {
    if (this.#quiet) return undefined;
    const { stderr, env } = this.#io;
    this.#progressView ??= new ProgressView(stderr, stderr.isTTY === true && env["TERM"] !== "dumb");
    return this.#progressView.show;
  }

  clearProgress(): void {
    this.#progressView?.clear();
  }

  /** Says what went wrong; with JSON on stdout, where a program reads. */
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

/** The operation that failed, on errors that came from hearthd. */
function operationOf(error: unknown): string | undefined {
  const { operation } = error as { readonly operation?: unknown };
  return typeof operation === "string" ? operation : undefined;
}

/** For those who look for a bug: HEARTH_DEBUG=1 prints where it was thrown. */
export function withDetails(thrown: unknown, io: Io): HearthError {
  const error = toHearthError(thrown);
  if (io.env["HEARTH_DEBUG"]) {
    const { stack } = error.cause instanceof Error ? error.cause : error;
    io.stderr.write(`${printableLines(stack ?? "")}\n`);
  }
  return error;
}
