import type { InfoResponse } from "#guest/gen/hearth/agent/v1/agent_pb.ts";
import { guestText } from "#guest/guest-text.ts";

/**
 * The report of an agent about itself and its guest. The guest may lie, so no decision about the host depends on it.
 */
export type GuestReport = {
  readonly agentVersion: string;
  /** Changes at every boot of the guest's kernel, and at every restore. */
  readonly bootId: string;
  readonly kernel: string;
  /** `agent` or `systemd`. */
  readonly init: string;
  readonly uptimeMs: number;
  readonly agentRssBytes: number;
  readonly memoryTotalBytes: number;
  readonly memoryAvailableBytes: number;
  /** The number of running commands. */
  readonly execs: number;
  readonly configured: boolean;
  /** True while its processes are frozen. */
  readonly frozen: boolean;
};

const WORD_MAX_CHARS = 100;

/** Converts the agent's answer, bounded and safe to print. */
export function readGuestReport(answer: InfoResponse): GuestReport {
  return {
    agentVersion: guestText(answer.version, WORD_MAX_CHARS),
    bootId: guestText(answer.bootId, WORD_MAX_CHARS),
    kernel: guestText(answer.kernel, WORD_MAX_CHARS),
    init: guestText(answer.init, WORD_MAX_CHARS),
    // Numbers are exact up to 2^53. Only a hostile guest sends larger ones.
    uptimeMs: Number(answer.uptimeMs),
    agentRssBytes: Number(answer.agentRssBytes),
    memoryTotalBytes: Number(answer.memoryTotalBytes),
    memoryAvailableBytes: Number(answer.memoryAvailableBytes),
    execs: answer.execs,
    configured: answer.configured,
    frozen: answer.frozen,
  };
}
