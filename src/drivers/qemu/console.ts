/** The guest's serial console. QEMU offers it on a socket, and discards what is not read. */
import { recordStream } from "#drivers/record-stream.ts";
import type { RecordOptions, StreamRecorder } from "#drivers/record-stream.ts";
import { connectUnix } from "#host/unix-socket.ts";

/**
 * Starts to record the console. Resolves once it is connected: nothing that is printed later is lost.
 * @throws the system's error when nothing listens at the socket, or the file cannot be made
 */
export async function recordConsole(
  socket: { readonly path: string; readonly owner: number | undefined },
  path: string,
  options: RecordOptions,
  signal: AbortSignal,
): Promise<StreamRecorder> {
  return recordStream(await connectUnix(socket.path, socket.owner, signal), path, options);
}
