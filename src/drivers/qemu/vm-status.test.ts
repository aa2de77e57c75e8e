import assert from "node:assert/strict";
import { test } from "node:test";
import type { QmpMonitor } from "#drivers/qemu/qmp.ts";
import { resumeVm } from "#drivers/qemu/resume-vm.ts";
import { readVmStatus } from "#drivers/qemu/vm-status.ts";

const never = new AbortController().signal;

/** A QEMU that gives these answers; the last one again and again. */
function monitorOf(
  statuses: readonly unknown[],
  disks: unknown = [],
): QmpMonitor & { readonly asked: string[] } {
  const left = [...statuses];
  const asked: string[] = [];
  const send = async (command: string): Promise<unknown> => {
    asked.push(command);
    if (command === "query-block") return disks;
    if (command !== "query-status") return {};
    return left.length > 1 ? left.shift() : left[0];
  };
  return { asked, send } as never;
}

for (const [answer, disks, status] of [
  [{ status: "running" }, [], "running"],
  [{ status: "suspended" }, [], "running"],
  [{ status: "paused" }, [], "paused"],
  [{ status: "postmigrate" }, [], "paused"],
  [{ status: "internal-error" }, [], "broken"],
  [{ status: "io-error" }, [{ "io-status": "ok" }, { "io-status": "nospace" }], "disk-full"],
  [{ status: "io-error" }, [{ "io-status": "failed" }], "disk-failed"],
  // It is powering off, and its end will be reported.
  [{ status: "shutdown" }, [], undefined],
  // A QEMU that was taken over answers anything.
  [null, [], undefined],
  ["running", [], undefined],
  [{ status: null }, [], undefined],
  [{ status: "toString" }, [], undefined],
  [{ status: "__proto__" }, [], undefined],
  [{ status: "io-error" }, null, "disk-failed"],
  [{ status: "io-error" }, [null, "nospace", { "io-status": ["nospace"] }], "disk-failed"],
] as const) {
  test(`the answers ${JSON.stringify(answer)} and ${JSON.stringify(disks)} of QEMU mean ${status}`, async () => {
    assert.equal(await readVmStatus(monitorOf([answer], disks), 1_000), status);
  });
}

test("a VM that waits for a full disk is resumed when there is room, and the resume fails while there is none", async () => {
  const full = { status: "io-error" };
  const disks = [{ "io-status": "nospace" }];
  await assert.rejects(resumeVm(monitorOf([full, { status: "running" }, full], disks), 1_000, never), {
    code: "host.disk_full",
    hint: /Free some space/,
  });
  await resumeVm(monitorOf([full, { status: "running" }], disks), 1_000, never);
});

test("a VM that a user has paused is resumed with one command", async () => {
  const monitor = monitorOf([{ status: "paused" }]);
  await resumeVm(monitor, 1_000, never);
  assert.deepEqual(monitor.asked, ["query-status", "cont"]);
});
