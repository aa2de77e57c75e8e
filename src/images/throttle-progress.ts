import type { OnProgress, Progress } from "#base/progress.ts";

const INTERVAL_MS = 100;

/** Passes on new texts at once, and changed byte counts at most ten times a second. */
export function throttleProgress(onProgress: OnProgress, now: () => number = Date.now): OnProgress {
  let last: Progress | undefined;
  let lastAtMs = 0;
  return (progress) => {
    const isNew = last === undefined || progress.stage !== last.stage || progress.text !== last.text;
    const isDone = progress.totalBytes !== undefined && progress.doneBytes === progress.totalBytes;
    if (!isNew && !isDone && now() - lastAtMs < INTERVAL_MS) return;
    last = progress;
    lastAtMs = now();
    onProgress(progress);
  };
}
