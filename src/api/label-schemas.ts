/** Labels on the wire, and the filters of lists. */
import { z } from "@hono/zod-openapi";
import { parsed } from "#api/parsed.ts";
import { toError } from "#base/error.ts";
import { checkLabelCount, checkLabelKey, checkLabelValue } from "#model/labels.ts";
import { parseVmFilters } from "#model/vm-filter.ts";

const key = parsed(checkLabelKey);
const value = parsed(checkLabelValue);

export const labelsSchema = z.record(key, value).superRefine((labels, context) => {
  try {
    checkLabelCount(labels);
  } catch (error) {
    context.addIssue({ code: "custom", message: toError(error).message });
  }
});

/** Null removes a label. Labels that are not named stay. */
export const labelChangesSchema = z.record(key, value.nullable());

/**
 * Returns the schema of a query with filters: `filter` may be given several times. `parse` throws for an invalid
 * filter.
 */
export function filterQuery(parse: (texts: readonly string[]) => unknown, description: string) {
  const filter = parsed((text) => parse([text]));
  return z.object({
    filter: z
      .union([filter, z.array(filter)])
      .optional()
      .openapi({ param: { name: "filter", in: "query" }, description, example: "label=team=web" }),
  });
}

export const vmFilterQuery = filterQuery(
  parseVmFilters,
  "label=KEY, label=KEY=VALUE, state=PHASE (the field `phase`) or name=PART. Can be repeated: a VM must have all the labels, one of the states and one of the name parts",
);
