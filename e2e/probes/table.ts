/** The table of probes over network policies: docs/network-probes.md is generated from it. */
import { ADDRESS_PROBES } from "./addresses.ts";
import { FRAME_PROBES } from "./hostile-frames.ts";
import { IPV6_PROBES } from "./ipv6-frames.ts";
import { NAME_PROBES, RULE_PROBES } from "./rules-and-names.ts";
import type { Probe } from "./probe.ts";

export type Chapter = { readonly title: string; readonly probes: readonly Probe[] };

export const CHAPTERS: readonly Chapter[] = [
  { title: "Addresses", probes: ADDRESS_PROBES },
  { title: "Rules", probes: RULE_PROBES },
  { title: "Domains", probes: NAME_PROBES },
  { title: "Frames", probes: FRAME_PROBES },
  { title: "IPv6", probes: IPV6_PROBES },
];

export const PROBES: readonly Probe[] = CHAPTERS.flatMap(({ probes }) => probes);

/** The ways in which a VM comes to run, and what happens on a host meanwhile; the table is tested on each. */
export const PATHS = [
  "a boot",
  "a start from a template",
  "a restore from a snapshot",
  "a fork",
  "a pool",
  "a suspend and a resume",
  "a stop and a start",
  "a kill of hearthd",
  "a firewall that accepts all",
  "the firewall of Docker",
  "the firewall of ufw",
  "a flush of other tables",
  "a flush of all tables and the start of a VM",
  "a change of the policy",
] as const;

export type PathName = (typeof PATHS)[number];
