/** Progress of long work. The CLI draws it; programs get it as events. */
export type Progress = {
  /** The part of the work: "packages", "kernel", "boot". */
  readonly stage: string;
  /** A short line for a person, without a full stop. */
  readonly text: string;
  readonly doneBytes?: number | undefined;
  readonly totalBytes?: number | undefined;
};

export type OnProgress = (progress: Progress) => void;
