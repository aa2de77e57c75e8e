import type { Doctor } from "#api/wire.ts";
import { errorBody } from "#base/error.ts";
import { command } from "#cli/command.ts";
import type { Context } from "#cli/command.ts";

/** Below the text, so that the verdicts stay a column of their own. */
const INDENT = 6;

export default command({
  path: ["doctor"],
  summary: "Check what this host can do, with cures for what it cannot",
  about:
    "Exits with 1 when something fails; a warning is none. That hearthd cannot start is a check as well. From ksm on the checks are about hosts on which guests of different people run.",
  args: [],
  flags: {
    fresh: { help: "Look again at what was remembered, such as whether KVM works" },
    production: { help: "Fail for what is a risk between guests of different people" },
  },
  examples: [
    ["hearth doctor", "Each check with its cure"],
    ["hearth doctor --production", "Before strangers' guests run here"],
    ["hearth doctor --fresh --json", "For programs, everything anew"],
  ],
  async run({ flags, out, hearth }) {
    const doctor = await check(hearth, flags);
    if (out.wantsJson) out.json(doctor);
    else {
      for (const { name, verdict, found, cure } of doctor.checks) {
        out.wrapped(`${verdict.padEnd(4)}  ${name}: ${found}`, INDENT);
        if (cure !== undefined && verdict !== "pass") out.wrapped(`      cure: ${cure}`, INDENT);
      }
      out.note(doctor.ok ? "Hearth works here." : "Something fails; the cures above help.");
    }
    return doctor.ok ? 0 : 1;
  },
});

type Asked = { readonly fresh: boolean; readonly production: boolean };

async function check(hearth: Context["hearth"], { fresh, production }: Asked): Promise<Doctor> {
  let client;
  try {
    client = await hearth();
  } catch (error) {
    const { message, hint } = errorBody(error);
    return { ok: false, checks: [{ name: "hearthd", verdict: "fail", found: message, cure: hint }] };
  }
  return client.doctor({ fresh, production });
}
