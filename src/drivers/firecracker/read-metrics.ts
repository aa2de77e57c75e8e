import { HearthError } from "#base/error.ts";
import { within } from "#base/deadline.ts";
import type { FirecrackerClient } from "#drivers/firecracker/api/firecracker-client.ts";
import type { FirecrackerMetrics } from "#drivers/firecracker/metrics.ts";
import type { FirecrackerRecorder } from "#drivers/firecracker/recorder.ts";
import type { VmmMetrics } from "#drivers/vm-driver.ts";

/** The line is in the pipe before Firecracker answers that it wrote it. */
const LINE_DEADLINE_MS = 500;

/**
 * Has Firecracker write its metrics, and waits until they are added to the sum.
 * @throws HearthError `vmm.unresponsive` when no line came: old numbers would be taken for new ones
 */
export async function readMetrics(
  recorder: Pick<FirecrackerRecorder, "metrics" | "nextMetrics">,
  client: FirecrackerClient,
  signal: AbortSignal,
): Promise<VmmMetrics> {
  const line = recorder.nextMetrics.then(() => true);
  await client.flushMetrics(signal);
  const came = await within(line, LINE_DEADLINE_MS);
  if (came && recorder.metrics !== undefined) return summarize(recorder.metrics);
  throw new HearthError(
    "vmm.unresponsive",
    `Firecracker did not send its metrics within ${LINE_DEADLINE_MS} ms.`,
  );
}

function summarize({ vcpu, block, vsock, logger, seccompFaults }: FirecrackerMetrics): VmmMetrics {
  return {
    vcpuExits: vcpu.exitIoIn + vcpu.exitIoOut + vcpu.exitMmioRead + vcpu.exitMmioWrite,
    blockReadBytes: block.readBytes,
    blockWriteBytes: block.writeBytes,
    blockReadOps: block.readCount,
    blockWriteOps: block.writeCount,
    blockThrottledCount: block.throttledCount,
    vsockToGuestBytes: vsock.rxBytes,
    vsockFromGuestBytes: vsock.txBytes,
    missedLogCount: logger.missedLogCount,
    missedMetricsCount: logger.missedMetricsCount,
    seccompFaultCount: seccompFaults,
  };
}
