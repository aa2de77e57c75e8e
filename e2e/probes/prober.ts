/**
 * The three places of the program that sends, answers and watches probes: agent/internal/prober. It is built here,
 * because no release has it.
 */
import { execFile, spawn } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import type { Bed } from "../bed.ts";
import type { PrivateInternet } from "../private-internet.ts";
import type { Step } from "./packets.ts";

const AGENT = join(import.meta.dirname, "../../agent");

/** Builds the program into a directory, and returns its path. */
export async function buildProber(dir: string): Promise<string> {
  const path = join(dir, "network-prober");
  const flags = ["-trimpath", "-buildvcs=false", "-ldflags", "-s -w"];
  await promisify(execFile)("go", ["build", ...flags, "-o", path, "./cmd/network-prober"], {
    cwd: AGENT,
    env: { ...process.env, CGO_ENABLED: "0" },
  });
  return path;
}

/** Tells what the guest has seen of a step: see Outcome in agent/internal/prober/probe.go. */
export type Outcome = { readonly id: string; readonly outcome: string; readonly detail?: string };

export const GUEST_PROBER = "/run/network-prober";

/** Takes steps in a guest that has the program. */
export async function takeSteps(bed: Bed, vm: string, steps: readonly Step[]): Promise<Outcome[]> {
  const input = steps.map((step) => JSON.stringify(step)).join("\n");
  const handle = (await bed.connect()).vm(vm);
  const { exitCode, stdout, stderr } = await handle.exec([GUEST_PROBER, "probe"], { input });
  if (exitCode !== 0) throw new Error(`the prober in ${vm} ended with ${exitCode}: ${stderr}`);
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Outcome);
}

/** Answers at endpoints of the Internet until the result is disposed of. */
export async function serveOn(internet: PrivateInternet, prober: string, endpoints: readonly string[]) {
  const program = start([`--net=${internet.namespaces.internet}`, prober, "serve", ...endpoints]);
  await linesOf(program).next();
  return { [Symbol.dispose]: () => void program.kill("SIGKILL") };
}

/** A packet of a step at an interface: see Sighting in agent/internal/prober/watch.go. */
export type Sighting = {
  readonly place: string;
  readonly link: string;
  readonly leaves: boolean;
  readonly id?: string;
  readonly fromPort?: number;
};

/** Watches network namespaces. Sees packets from its start on. */
export class Watch implements Disposable {
  readonly #program: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  private constructor(program: ChildProcessWithoutNullStreams) {
    this.#program = program;
    this.#lines = linesOf(program);
  }

  /** @param places the files of namespaces, by the names that sightings have for them */
  static async start(prober: string, places: Readonly<Record<string, string>>): Promise<Watch> {
    const named = Object.entries(places).map(([name, path]) => `${name}=${path}`);
    const watch = new Watch(start([`--net=/proc/self/ns/net`, prober, "watch", ...named]));
    await watch.#read();
    return watch;
  }

  /** Returns the sightings since the last call, up to one of this step, which is the last that was sent. */
  async until(id: string): Promise<Sighting[]> {
    const seen: Sighting[] = [];
    // Frames of the last step may wait at other interfaces when they are seen at the first.
    for (let after = 0; after < 2; after += seen.some((one) => one.id === id) ? 1 : 0) {
      this.#program.stdin.write("\n");
      seen.push(...(await this.#read()));
    }
    return seen;
  }

  /** Returns the sightings up to an answer to a request. */
  async #read(): Promise<Sighting[]> {
    const seen: Sighting[] = [];
    for (;;) {
      const line = await this.#lines.next();
      if (line.done === true) throw new Error("The watch has ended.");
      const one = JSON.parse(line.value) as Sighting | Record<string, never>;
      if (!("place" in one)) return seen;
      seen.push(one as Sighting);
    }
  }

  [Symbol.dispose](): void {
    this.#program.kill("SIGKILL");
  }
}

function start(argv: readonly string[]): ChildProcessWithoutNullStreams {
  const program = spawn("nsenter", argv);
  program.stderr.pipe(process.stderr, { end: false });
  return program;
}

function linesOf(program: ChildProcessWithoutNullStreams): AsyncIterator<string> {
  return createInterface({ input: program.stdout })[Symbol.asyncIterator]();
}
