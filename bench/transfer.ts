/** Bytes through the agent's channel with nothing of hearthd or the CLI around it. */
import type { AgentClient } from "#guest/agent-client.ts";

const CHUNK_BYTES = 64 * 1024;

/** Runs a command with `stdin` and resolves with the bytes of its stdout. @throws when it fails. */
export async function execThrough(
  agent: AgentClient,
  argv: readonly string[],
  stdin?: AsyncIterable<Uint8Array>,
): Promise<number> {
  const { signal } = new AbortController();
  const spec = { argv, env: {}, stdin: stdin !== undefined, detach: false };
  const id = `bench-${process.hrtime.bigint()}`;
  let bytes = 0;
  for await (const event of agent.exec(spec, { id, stdin }, signal)) {
    if (event.type === "stdout") bytes += event.bytes.length;
    if (event.type === "exited" && event.code !== 0)
      throw new Error(`${argv.join(" ")} ended with ${event.code}.`);
  }
  return bytes;
}

/** So many bytes, in chunks as a file is read. */
export async function* zeros(bytes: number): AsyncGenerator<Uint8Array> {
  const chunk = new Uint8Array(CHUNK_BYTES);
  for (let left = bytes; left > 0; left -= chunk.length)
    yield chunk.subarray(0, Math.min(left, chunk.length));
}
