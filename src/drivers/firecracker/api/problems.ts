import { HearthError } from "#base/error.ts";

/** Ids of drives, interfaces and pmem devices become parts of paths; Firecracker accepts no others. */
const ID = /^[A-Za-z0-9_]+$/;
const VALUE_MAX_CHARS = 100;
const ALL_MAX_CHARS = 4_000;

/**
 * Collects all problems of a configuration before any of it is sent. Absent optional values break no rule: every check
 * ignores undefined, except `required`.
 */
export class Problems {
  readonly #found: HearthError[] = [];

  /** All problems, each with field, rule and value: "vsock.guestCid must be >= 3, and is 2." */
  get all(): readonly HearthError[] {
    return [...this.#found];
  }

  check(holds: boolean, field: string, rule: string, value: unknown): void {
    if (holds) return;
    const shown = JSON.stringify(value) ?? String(value);
    const cut = shown.length > VALUE_MAX_CHARS ? `${shown.slice(0, VALUE_MAX_CHARS)}…` : shown;
    this.#found.push(new HearthError("input.invalid", `${field} must be ${rule}, and is ${cut}.`));
  }

  /** Returns true when the value is given, so that the checks of its parts can be skipped otherwise. */
  required<Value>(field: string, value: Value | undefined | null): value is Value {
    const given = value !== undefined && value !== null;
    if (!given) this.#found.push(new HearthError("input.invalid", `${field} is required.`));
    return given;
  }

  /** Checks for a whole number that JSON carries without loss. */
  integer(field: string, value: number | undefined, min: number, max = Number.MAX_SAFE_INTEGER): void {
    if (value === undefined) return;
    const whole = Number.isSafeInteger(value);
    this.check(whole, field, "a whole number", value);
    this.check(!whole || value >= min, field, `>= ${min}`, value);
    this.check(!whole || value <= max, field, `<= ${max}`, value);
  }

  /** Checks a required id, which is part of the request's path. */
  id(field: string, value: string): void {
    if (!this.required(field, value)) return;
    this.check(ID.test(value), field, "of letters, digits and underscores", value);
  }

  /** Checks for a text that can be a path. Firecracker itself, in its own root, finds whether the file exists. */
  path(field: string, value: string | undefined): void {
    if (value === undefined) return;
    this.check(typeof value === "string" && value !== "", field, "a path", value);
    this.check(!String(value).includes("\0"), field, "without NUL", value);
  }

  oneOf(field: string, value: string | undefined, allowed: readonly string[]): void {
    if (value === undefined) return;
    this.check(allowed.includes(value), field, `one of ${allowed.join(", ")}`, value);
  }

  matches(field: string, value: string | undefined, pattern: RegExp, rule: string): void {
    if (value === undefined) return;
    this.check(pattern.test(value), field, rule, value);
  }

  /** @throws HearthError `input.invalid` with all problems */
  throwIfAny(): void {
    const [first, ...more] = this.#found;
    if (first === undefined) return;
    if (more.length === 0) throw first;
    const sentences = this.#found.map(({ message }) => message).join(" ");
    throw new HearthError("input.invalid", sentences.slice(0, ALL_MAX_CHARS));
  }
}

/**
 * Checks one section that is sent by itself.
 * @throws HearthError `input.invalid` with all problems that `look` found
 */
export function checked(look: (problems: Problems) => void): void {
  const problems = new Problems();
  look(problems);
  problems.throwIfAny();
}
