import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import type { CreateVm } from "#api/wire.ts";
import { HearthError, toError } from "#base/error.ts";
import type { NetworkPolicy } from "#model/network-policy.ts";
import { parsePolicyName } from "#model/policy-presets.ts";
import type { Io } from "#cli/io.ts";

/**
 * Reads the value of `--policy`: the name of a policy, which hearthd knows; or the path of a file, which has a / or ends
 * in .toml, and which only this program may see.
 * @throws HearthError `input.invalid` for what is neither, and for a file that is no policy
 */
export async function readPolicyChoice(
  text: string,
  { cwd }: Pick<Io, "cwd">,
): Promise<Pick<CreateVm, "policy" | "policyName">> {
  if (!text.includes("/") && !text.endsWith(".toml")) return { policyName: parsePolicyName(text) };
  return { policy: await readPolicyFile(resolve(cwd, text)) };
}

async function readPolicyFile(path: string): Promise<NetworkPolicy> {
  const source = read(path);
  // Loaded for such files only: most commands do without.
  const [{ parse }, { parsePolicyForm }] = await Promise.all([
    import("smol-toml"),
    import("#model/policy-form.ts"),
  ]);
  try {
    return parsePolicyForm(parse(source));
  } catch (error) {
    const hint = error instanceof HearthError ? error.hint : "docs/network.md has an example of a policy.";
    const [message = ""] = toError(error).message.split("\n", 1);
    throw new HearthError("input.invalid", `policy: ${path}: ${message}`, { hint });
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    throw new HearthError("input.invalid", `policy: cannot read ${path} (${code}).`, {
      hint: "Name a file in the form of docs/network.md, or one of the policies internet, open and none.",
    });
  }
}
