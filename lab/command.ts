import { spawn } from "node:child_process";
import type { StdioOptions } from "node:child_process";

export type CommandOptions = {
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** Its output goes where ours goes, and its exit code is the answer whatever it is. */
  readonly attached?: boolean | undefined;
};

/** A signal that ends us first ends what we started, which cleans up after itself. */
const PASSED_ON = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Runs a program and gives its stdout. @throws Error with its last words when it fails. */
export async function command(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await start(file, args, options, ["ignore", "pipe", "pipe"]);
  if (result.code === 0) return result.stdout;
  throw new Error(
    `${file} ${args.slice(0, 3).join(" ")} … ended with ${result.code}: ${result.stderr.slice(-2000)}`,
  );
}

/** Runs a command on our own terminal, for people who watch; resolves with its exit code. */
export async function attached(
  file: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<number> {
  return (await start(file, args, options, ["inherit", "inherit", "inherit"])).code;
}

function start(
  file: string,
  args: readonly string[],
  { env }: CommandOptions,
  stdio: StdioOptions,
): Promise<{ code: number; stdout: string; stderr: string }> {
  const child = spawn(file, args, { env: { ...process.env, ...env }, stdio });
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  for (const signal of PASSED_ON) process.on(signal, pass);
  let stdout = "";
  let stderr = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      for (const one of PASSED_ON) process.off(one, pass);
      resolve({ code: code ?? (signal === "SIGINT" ? 130 : 143), stdout, stderr });
    });
  });
}
