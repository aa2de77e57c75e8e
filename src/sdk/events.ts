import type { IncomingMessage } from "node:http";
import type { ApiEvent } from "#api/events.ts";
import { answerStream } from "#sdk/answer-stream.ts";
import { parseSent } from "#sdk/transport.ts";

/**
 * Yields the data of server-sent events until the server ends the stream.
 * @throws HearthError `daemon.unreachable` if the stream is cut off, `internal.bug` if an event cannot be parsed.
 */
export async function* readEvents(
  response: IncomingMessage,
  signal?: AbortSignal,
): AsyncGenerator<ApiEvent, void, undefined> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of answerStream(response, signal) as AsyncIterable<Buffer>) {
    text += decoder.decode(chunk, { stream: true });
    const events = text.split("\n\n");
    text = events.pop() ?? "";
    for (const event of events) {
      const data = event
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart());
      // Comments only keep the connection alive.
      if (data.length > 0) yield parseSent(data.join("\n")) as ApiEvent;
    }
  }
}
