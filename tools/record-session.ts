/**
 * Writes docs/session.svg, the terminal session that the README shows: `node tools/record-session.ts`. The commands run
 * with the checkout's `./hearth` in a home that is made for them and removed after them. Output and times are real;
 * only the wait for the template is cut out, and a moment is added in which a reader finds each command. A test says
 * when the picture shows other commands than these.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "#host/run.ts";
import { drawSession } from "./session-picture.ts";
import type { SessionLine } from "./session-picture.ts";

export const SESSION_PICTURE = join(import.meta.dirname, "../docs/session.svg");

type Part =
  | { readonly type: string; readonly exits?: number }
  | { readonly note: string }
  /** Runs, and is not shown. */
  | { readonly unseen: string };

export const SESSION: readonly Part[] = [
  { type: "./hearth run --rm debian -- uname -sr" },
  { unseen: "./hearth template build debian" },
  { note: "# Meanwhile hearthd has made a template. The next VMs do not boot." },
  { type: "./hearth run --rm debian -- uname -sr" },
  { note: "# A VM that stays, and a copy of it while it runs." },
  { type: "./hearth run -d --name box debian -- sh -c 'date +%T > /run/note; sleep 1h'" },
  { type: "./hearth fork --name copy box" },
  { type: "./hearth exec copy -- sh -c 'hostname; cat /run/note'" },
  { type: "./hearth ls" },
  { type: "./hearth rm -f box copy" },
];

const ROOT = join(import.meta.dirname, "..");
const COMMAND_TIMEOUT_MS = 300_000;
const READING_MS = 800;

/** Types the session, and returns its lines. */
async function record(): Promise<SessionLine[]> {
  const home = mkdtempSync(join(tmpdir(), "hearth-session-"));
  const terminal = new Terminal(home);
  try {
    // The image is built before the recording; the README shows how.
    await terminal.runUnseen("./hearth image build debian");
    for (const part of SESSION) {
      if ("unseen" in part) await terminal.runUnseen(part.unseen);
      else if ("note" in part) terminal.show("note", part.note);
      else await terminal.type(part.type, part.exits ?? 0);
    }
    return terminal.lines;
  } finally {
    await terminal.runUnseen("./hearth daemon stop");
    rmSync(home, { recursive: true });
  }
}

class Terminal {
  readonly lines: SessionLine[] = [];
  readonly #env: Readonly<Record<string, string>>;
  #atMs = 0;

  constructor(home: string) {
    this.#env = {
      HOME: home,
      XDG_RUNTIME_DIR: join(home, "run"),
      XDG_CACHE_HOME: process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"),
    };
  }

  show(kind: SessionLine["kind"], text: string): void {
    this.lines.push({ atMs: this.#atMs, kind, text });
  }

  async type(command: string, exits: number): Promise<void> {
    this.#atMs += READING_MS;
    this.show("command", `$ ${command}`);
    const [startedAt, startsAtMs] = [performance.now(), this.#atMs];
    const tookMs = (): number => performance.now() - startedAt;
    const onStderrLine = (line: string): void => {
      this.#atMs = startsAtMs + tookMs();
      this.show("progress", line);
    };
    const output = await this.#run(command, exits, onStderrLine);
    this.#atMs = startsAtMs + tookMs();
    for (const line of output.split("\n").slice(0, -1)) this.show("output", line);
    this.show("note", `# ${(tookMs() / 1000).toFixed(1)} s`);
  }

  async runUnseen(command: string): Promise<void> {
    await this.#run(command, 0);
  }

  async #run(command: string, exits: number, onStderrLine?: (line: string) => void): Promise<string> {
    const result = await run("/bin/sh", ["-c", command], {
      cwd: ROOT,
      env: this.#env,
      timeoutMs: COMMAND_TIMEOUT_MS,
      signal: AbortSignal.timeout(COMMAND_TIMEOUT_MS),
      onStderrLine,
    });
    const code = result.ok ? 0 : result.code;
    if (code !== exits) throw new Error(`${command} ended with ${code}: ${result.stderr}`);
    return result.stdout;
  }
}

if (import.meta.main) {
  writeFileSync(SESSION_PICTURE, drawSession("A session with Hearth in a terminal", await record()));
}
