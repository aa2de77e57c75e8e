import type { Argument } from "#cli/command.ts";

/** The argument that names an image which hearthd can build. */
export const IMAGE_ARGUMENT = {
  name: "IMAGE",
  help: "Image: debian, debian-systemd or debian-host, and :bookworm (default) or :trixie",
  completes: "image",
} as const satisfies Argument;
