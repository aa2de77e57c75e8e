import { command } from "#cli/command.ts";

export default command({
  path: ["firecracker", "install"],
  summary: "Install Firecracker and its jailer",
  about:
    "Into Hearth's cache, from its release page, verified against the published checksums. Nothing else on the host changes.",
  args: [],
  flags: { version: { value: "VERSION", help: "Such as 1.12.1; the newest unless given" } },
  examples: [
    ["hearth firecracker install", "The newest release"],
    ["hearth firecracker install --version 1.12.1", "This one"],
  ],
  async run({ flags, out, hearth }) {
    const { firecracker } = await hearth();
    const made = await firecracker.install({ version: flags.version, onProgress: out.onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(made);
    out.line(made.version);
    out.note(made.fresh ? `Installed: ${made.program}` : `It was there already: ${made.program}`);
  },
});
