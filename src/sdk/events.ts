import type { IncomingMessage } from "node:http";
import type { ApiEvent } from "#api/events.ts";

/** The data of server-sent events, as they come. Ends when the server does. */
export async function* readEvents(response: IncomingMessage): AsyncGenerator<ApiEvent, void, undefined> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response as AsyncIterable<Buffer>) {
    text += decoder.decode(chunk, { stream: true });
    const events = text.split("\n\n");
    text = events.pop() ?? "";
    for (const event of events) {
      const data = event
        .split("\n")
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart());
      // Comments keep the connection alive and carry nothing.
      if (data.length > 0) yield JSON.parse(data.join("\n")) as ApiEvent;
    }
  }
}
