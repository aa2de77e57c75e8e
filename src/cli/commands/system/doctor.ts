import type { Doctor } from "#api/wire.ts";
import { errorBody } from "#base/error.ts";
import { command } from "#cli/command.ts";
import type { Context } from "#cli/command.ts";

export default command({
  path: ["doctor"],
  summary: "Check what this host can do, with a cure for what it cannot",
  about:
    "Exits with 1 when something fails; a warning is none. That hearthd cannot start is a check as well.",
  args: [],
  flags: { fresh: { help: "Look again at what was remembered, such as whether KVM works" } },
  examples: [
    ["hearth doctor", "Each check with its cure"],
    ["hearth doctor --fresh --json", "For programs, everything anew"],
  ],
  async run({ flags, out, hearth }) {
    const doctor = await check(hearth, flags.fresh);
    if (out.wantsJson) out.json(doctor);
    else {
      for (const { name, verdict, found, cure } of doctor.checks) {
        out.line(`${verdict.padEnd(4)}  ${name}: ${found}`);
        if (cure !== undefined && verdict !== "pass") out.line(`      cure: ${cure}`);
      }
      out.note(doctor.ok ? "Hearth works here." : "Hearth does not work here yet; the cures above help.");
    }
    return doctor.ok ? 0 : 1;
  },
});

async function check(hearth: Context["hearth"], fresh: boolean): Promise<Doctor> {
  let client;
  try {
    client = await hearth();
  } catch (error) {
    const { message, hint } = errorBody(error);
    return { ok: false, checks: [{ name: "hearthd", verdict: "fail", found: message, cure: hint }] };
  }
  return client.doctor({ fresh });
}
