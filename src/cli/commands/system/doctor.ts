import type { Doctor } from "#api/wire.ts";
import { errorBody } from "#base/error.ts";
import { command } from "#cli/command.ts";
import type { Context } from "#cli/command.ts";

/** The indent of texts, so that the results stay in one column. */
const INDENT = 6;

export default command({
  path: ["doctor"],
  summary: "Check this host, and show how to fix problems",
  about:
    "The exit code is 1 if a check fails; warnings do not count as failures. If hearthd cannot start, that " +
    "is a failed check too. The last checks, from `ksm` on, are about production hosts: risks between " +
    "guests that do not trust each other, and speed.",
  args: [],
  flags: {
    fresh: { help: "Repeat checks whose results are cached, such as whether KVM works" },
    production: { help: "Report risks between untrusted guests as failures, not as warnings" },
  },
  examples: [
    ["hearth doctor", "Show each check, and how to fix it"],
    ["hearth doctor --production", "Check a host before it runs untrusted guests"],
    ["hearth doctor --fresh --json", "Repeat all checks, and print JSON for programs"],
  ],
  async run({ flags, out, hearth }) {
    const doctor = await check(hearth, flags);
    if (out.wantsJson) out.json(doctor);
    else {
      for (const { name, verdict, found, fix } of doctor.checks) {
        await out.wrapped(`${verdict.padEnd(4)}  ${name}: ${found}`, INDENT);
        if (fix !== undefined && verdict !== "pass") await out.wrapped(`      fix: ${fix}`, INDENT);
      }
      out.note(doctor.ok ? "Hearth works here." : "Some checks failed. Apply the fixes above.");
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
    return { ok: false, checks: [{ name: "hearthd", verdict: "fail", found: message, fix: hint }] };
  }
  return client.doctor({ fresh, production });
}
