import type { Brand } from "#base/brand.ts";
import { HearthError } from "#base/error.ts";

/** The name of an image, as users write it: `debian`, `debian:trixie`. Without a tag, it means the image's default. */
export type ImageRef = Brand<string, "ImageRef">;

const IMAGE_REF =
  /^[a-z0-9]+(?:[._-][a-z0-9]+)*(?:\/[a-z0-9]+(?:[._-][a-z0-9]+)*)*(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$/;

/** @throws HearthError `input.invalid` with an example. */
export function parseImageRef(text: string): ImageRef {
  if (text.length <= 255 && IMAGE_REF.test(text)) return text as ImageRef;
  throw new HearthError(
    "input.invalid",
    `image: ${JSON.stringify(text.slice(0, 80))} is not an image name.`,
    {
      hint: "Write a name and an optional tag, such as debian or debian:trixie.",
    },
  );
}
