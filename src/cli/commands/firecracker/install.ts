import { command } from "#cli/command.ts";

export default command({
  path: ["firecracker", "install"],
  summary: "Install Firecracker and its jailer",
  about:
    "Downloads a release into the cache of Hearth, and verifies it against the published checksums. " +
    "Nothing else on the host changes.",
  args: [],
  flags: { version: { value: "VERSION", default: "latest", help: "Version, such as 1.12.1" } },
  examples: [
    ["hearth firecracker install", "Install the latest release"],
    ["hearth firecracker install --version 1.12.1", "Install one version"],
  ],
  async run({ flags, out, hearth }) {
    const { firecracker } = await hearth();
    const made = await firecracker.install({ version: flags.version, onProgress: out.onProgress });
    out.clearProgress();
    if (out.wantsJson) return out.json(made);
    out.line(made.version);
    out.note(made.fresh ? `Installed: ${made.program}` : `Already installed: ${made.program}`);
  },
});
