import { HearthError } from "#base/error.ts";

/** The hint names the fix, which is not done automatically: a VM may be running on that file. */
export function corruptImage(path: string, ref: string, reason: string): HearthError {
  return new HearthError("image.corrupt", `The image ${ref} is damaged: ${path}: ${reason}.`, {
    hint: `Build it again: \`hearth image rm ${ref} && hearth image build ${ref}\`.`,
  });
}
