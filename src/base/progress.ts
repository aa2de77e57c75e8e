/** Long work tells what it does. The CLI draws it; programs get it as events. */
export type Progress = {
  /** Which part of the work, in the field's words: "packages", "kernel", "boot". */
  readonly stage: string;
  /** One short line for a person, without a full stop. */
  readonly text: string;
  readonly doneBytes?: number | undefined;
  readonly totalBytes?: number | undefined;
};

export type OnProgress = (progress: Progress) => void;
