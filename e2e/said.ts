import type { Readable } from "node:stream";

/** Resolves when the stream has said so. What follows flows on, unread, until somebody listens again. */
export async function said(stream: Readable, what: RegExp): Promise<void> {
  let text = "";
  const heard = Promise.withResolvers<void>();
  const listen = (chunk: Buffer): void => {
    text += chunk.toString();
    if (what.test(text)) heard.resolve();
  };
  const end = (): void => heard.reject(new Error(`it never said ${what}, but: ${text}`));
  stream.on("data", listen).once("end", end);
  try {
    await heard.promise;
  } finally {
    stream.off("data", listen).off("end", end).resume();
  }
}
