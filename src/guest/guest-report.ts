import type { InfoResponse } from "#guest/gen/hearth/agent/v1/agent_pb.ts";
import { guestText } from "#guest/guest-text.ts";

/** What an agent says about itself and its guest. It may lie; nothing on the host rests on it. */
export type GuestReport = {
  readonly agentVersion: string;
  /** New with every boot of the guest's kernel, and every restore. */
  readonly bootId: string;
  readonly kernel: string;
  /** "agent" or "systemd". */
  readonly init: string;
  readonly uptimeMs: number;
  readonly agentRssBytes: number;
  readonly memoryTotalBytes: number;
  readonly memoryAvailableBytes: number;
  /** Commands that run now. */
  readonly execs: number;
  readonly configured: boolean;
  /** Whether its processes are held, by `freeze`. */
  readonly frozen: boolean;
};

const WORD_MAX_CHARS = 100;

/** The agent's answer, bounded and safe to print. */
export function readGuestReport(answer: InfoResponse): GuestReport {
  return {
    agentVersion: guestText(answer.version, WORD_MAX_CHARS),
    bootId: guestText(answer.bootId, WORD_MAX_CHARS),
    kernel: guestText(answer.kernel, WORD_MAX_CHARS),
    init: guestText(answer.init, WORD_MAX_CHARS),
    // As numbers, all are exact up to 2^53; what a hostile guest sends beyond that may be inexact.
    uptimeMs: Number(answer.uptimeMs),
    agentRssBytes: Number(answer.agentRssBytes),
    memoryTotalBytes: Number(answer.memoryTotalBytes),
    memoryAvailableBytes: Number(answer.memoryAvailableBytes),
    execs: answer.execs,
    configured: answer.configured,
    frozen: answer.frozen,
  };
}
