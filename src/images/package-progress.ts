/** Converts the output of apt and mmdebstrap into progress. Unknown lines are ignored. */
import type { OnProgress } from "#base/progress.ts";

const STAGE = "packages";
const UNITS: Readonly<Record<string, number>> = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9 };

/** mmdebstrap's lines, with texts for people. */
const PHASES: Readonly<Record<string, string>> = {
  "running apt-get update": "reading the package lists",
  "downloading packages with apt": "downloading packages",
  "extracting archives": "unpacking packages",
  "installing essential packages": "configuring essential packages",
  "installing remaining packages inside the chroot": "installing packages",
  "cleaning package lists and apt cache": "cleaning up",
};

/** Follows one run of mmdebstrap; pass it all its lines in order. */
export class PackageProgress {
  readonly #onProgress: OnProgress;
  #text = "reading the package lists";
  #doneBytes = 0;
  #totalBytes: number | undefined;

  constructor(onProgress: OnProgress) {
    this.#onProgress = onProgress;
  }

  line(line: string): void {
    const phase = /^I: (.*?)(?:\.\.\.)?$/.exec(line)?.[1];
    if (phase !== undefined && PHASES[phase] !== undefined) {
      this.#text = PHASES[phase];
      this.#totalBytes = undefined;
      return this.#onProgress({ stage: STAGE, text: this.#text });
    }
    const need = /^Need to get (?:[\d.,]+ \w+\/)?([\d.,]+ [kMG]?B) of archives/.exec(line);
    if (need !== null) {
      this.#doneBytes = 0;
      this.#totalBytes = parseAptSize(need[1] ?? "");
      return this.#report();
    }
    const got = /^Get:\d+ .*\[([\d.,]+ [kMG]?B)\]$/.exec(line);
    if (got === null || this.#totalBytes === undefined) return;
    this.#doneBytes += parseAptSize(got[1] ?? "") ?? 0;
    this.#report();
  }

  #report(): void {
    const totalBytes = this.#totalBytes ?? 0;
    // apt rounds each size that it prints, so the sum may exceed the total by a little.
    const doneBytes = Math.min(this.#doneBytes, totalBytes);
    this.#onProgress({ stage: STAGE, text: this.#text, doneBytes, totalBytes });
  }
}

/** Parses a size such as `29.7 MB`: apt uses powers of 1000. */
export function parseAptSize(text: string): number | undefined {
  const match = /^([\d.,]+) ([kMG]?B)$/.exec(text);
  if (match === null) return undefined;
  return Math.round(Number((match[1] ?? "").replaceAll(",", "")) * (UNITS[match[2] ?? ""] ?? 1));
}
