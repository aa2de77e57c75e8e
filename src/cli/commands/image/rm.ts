import { parseImageDigest } from "#model/ids.ts";
import { parseImageRef } from "#model/image-ref.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["image", "rm"],
  summary: "Remove images",
  about: "An image that a VM uses is not removed.",
  args: [{ name: "IMAGE", many: true, help: "Names or digests of the images", completes: "image" }],
  flags: {},
  examples: [["hearth image rm debian:trixie", "Remove an image; it can be built again"]],
  async run({ args, out, hearth }) {
    const refs = [
      ...new Set(
        args.map((text) => (text.startsWith("sha256:") ? parseImageDigest(text) : parseImageRef(text))),
      ),
    ];
    const client = await hearth();
    const outcomes = await Promise.allSettled(refs.map((ref) => client.images.remove(ref)));
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (refs.length === 1 && failed !== undefined) throw failed.reason;
    const removed = refs.filter((_, index) => outcomes[index]?.status === "fulfilled");
    if (out.wantsJson) out.json(removed.map((ref) => ({ ref, removed: true })));
    else for (const ref of removed) out.line(ref);
    for (const outcome of outcomes) if (outcome.status === "rejected") out.errorForPeople(outcome.reason);
    return failed === undefined ? 0 : 1;
  },
});
