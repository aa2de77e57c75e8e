/**
 * A program in QEMU's place that is taken over by the state that it loads: it then puts a link to another VM's socket
 * in the place of its agent's, if its run directory lets it. Its mode decides that here, as the kernel does for who is
 * not root. Arguments: the other socket, and QEMU's own.
 */
import { renameSync, statSync, symlinkSync } from "node:fs";
import { createServer } from "node:net";
import { dirname } from "node:path";

const [, , victim = "", ...args] = process.argv;

function socketOf(id: string): string {
  const option = args.find((arg) => arg.startsWith(`socket,id=${id},`)) ?? "";
  return /,path=([^,]+)/.exec(option)?.[1] ?? "";
}

function attack(): void {
  const agent = socketOf("agent");
  const mayWrite = (statSync(dirname(agent)).mode & 0o200) !== 0;
  if (!mayWrite) return;
  symlinkSync(victim, `${agent}.new`);
  renameSync(`${agent}.new`, agent);
}

for (const id of ["console", "agent"]) createServer(() => {}).listen(socketOf(id));
createServer((socket) => {
  socket.write(`{"QMP": {}}\n`);
  socket.on("data", (bytes) => {
    for (const line of String(bytes).trim().split("\n")) {
      const { execute, id } = JSON.parse(line) as { execute: string; id: number };
      if (execute === "migrate-incoming") attack();
      socket.write(`${JSON.stringify({ id, return: { status: "completed", running: true } })}\n`);
    }
  });
}).listen(socketOf("qmp"));
