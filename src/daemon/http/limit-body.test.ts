import assert from "node:assert/strict";
import { once } from "node:events";
import { Readable } from "node:stream";
import { test } from "node:test";
import { serveDaemon } from "#testing/served-daemon.ts";

for (const [title, head] of [
  ["says that it is too large", "content-length: 5000000\r\n\r\n"],
  ["does not say how large it is", "transfer-encoding: chunked\r\n\r\n4c4b40\r\n"],
] as const) {
  test(`a body that ${title} is refused before all of it is in memory`, { timeout: 20_000 }, async (t) => {
    const served = await serveDaemon(t);
    const socket = await served.connect();
    let text = "";
    socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
    socket.write(`POST /v1/vms HTTP/1.1\r\nHost: hearthd\r\ncontent-type: application/json\r\n${head}`);
    const part = Buffer.alloc(64 * 1024, " ");
    while (!text.includes('"}}') && !socket.destroyed) {
      if (!socket.write(part))
        await Promise.race([once(socket, "drain"), once(socket, "data"), once(socket, "close")]);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.match(text, /^HTTP\/1.1 413 .*"code":"input.too_large".*more than 1048576 bytes/s);
    socket.destroy();
  });
}

test("files are streams, and may be larger", async (t) => {
  const served = await serveDaemon(t);
  await served.run("web");
  const tar = Readable.from([Buffer.alloc(5_000_000)]);
  await (await served.client()).vm("web").writeTar("/", tar);
});
