import { QemuImg } from "#host/qemu-img.ts";
import { ToolSandbox } from "#host/tool-sandbox.ts";
import type { ToolUid } from "#host/tool-sandbox.ts";

/** A uid of no VM, and of no lease. */
export const TOOL_UID = 1_970_000_000;

/** The sandbox that hearthd gives its tools; as root with a uid that tests have. */
export const TOOL_SANDBOX = new ToolSandbox(toolUid);

export const QEMU_IMG = new QemuImg(TOOL_SANDBOX);

async function toolUid(): Promise<ToolUid | undefined> {
  return process.geteuid?.() === 0 ? { uid: TOOL_UID, async [Symbol.asyncDispose]() {} } : undefined;
}
