/** The settings of the helper. They come from root, which starts it, and never from hearthd. */
import * as z from "zod/mini";
import { parseJson } from "#helper/message-lines.ts";
import { parseWith } from "#helper/port-wire.ts";
import type { VerbOptions } from "#helper/privileged-verbs.ts";

export type HelperSettings = Required<Omit<VerbOptions, "isRoot" | "networks">>;

const absolute = z.string().check(z.startsWith("/"));
const texts = z.readonly(z.array(z.string()));
const uid = z.int().check(z.nonnegative());

const settings = z.strictObject({
  roots: z.strictObject({
    vms: absolute,
    volumes: absolute,
    snapshots: absolute,
    runs: absolute,
    jails: absolute,
    leases: absolute,
    networks: absolute,
    cgroups: absolute,
  }),
  uids: z.strictObject({ first: z.int().check(z.positive()), count: z.int().check(z.positive()) }),
  programs: z.strictObject({ programs: texts, dirs: texts }),
  networkPrograms: z.strictObject({ netns: absolute, resolver: absolute }),
  tools: texts,
  owner: z.strictObject({ uid, gid: uid }),
});

/**
 * Parses the settings.
 * @throws HearthError `input.invalid` with the field that is wrong
 */
export function parseHelperSettings(json: string): HelperSettings {
  return parseWith(settings, parseJson(json), "The settings of the helper");
}
