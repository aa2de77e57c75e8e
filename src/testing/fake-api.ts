/**
 * A hearthd with state and without VMs, on a Unix socket of its own: for tests of the SDK and the command line.
 * Its commands are few, and fake-command.ts has them.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import { VERSION_HEADER } from "#api/events.ts";
import type { ApiEvent } from "#api/events.ts";
import type { CreateVm, CreateVolume, Exec, ForkVm, LostEntry, Run, SetVm, Vm } from "#api/wire.ts";
import { ERROR_CODES, errorBody, HearthError } from "#base/error.ts";
import { apiSocketPath, hearthFolders } from "#base/folders.ts";
import { hearthVersion } from "#base/version.ts";
import { changeLabels } from "#model/labels.ts";
import { parseVmFilters } from "#model/vm-filter.ts";
import { assertCan } from "#model/vm-state.ts";
import type { VmAction, VmPhase } from "#model/vm-state.ts";
import { FakeCommand } from "#testing/fake-command.ts";
import { FakeSnapshots } from "#testing/fake-snapshots.ts";
import { fakeVm } from "#testing/fake-vm.ts";
import { FakeVolumes } from "#testing/fake-volumes.ts";

export type FakeRequest = { readonly method: string; readonly path: string; readonly body: unknown };

/** hearthd's API with state and without VMs, on a socket of its own. */
export class FakeApi implements AsyncDisposable {
  readonly home = mkdtempSync(join(tmpdir(), "hearth-fake-"));
  readonly socketPath = apiSocketPath(hearthFolders({ HEARTH_HOME: this.home }, "/"));
  readonly vms = new Map<string, Vm>();
  readonly volumes = new FakeVolumes();
  lostFound: LostEntry[] = [];
  readonly snapshots = new FakeSnapshots(this.vms);
  readonly requests: FakeRequest[] = [];
  version = hearthVersion();
  /** The first messages of execs and runs. */
  readonly execs: Exec[] = [];
  readonly runs: Run[] = [];
  readonly signals: string[] = [];
  readonly resizes: { readonly rows: number; readonly cols: number }[] = [];
  /** Tar streams by path of the guest, and what was written, by path. */
  readonly files = new Map<string, Buffer>();
  readonly written = new Map<string, Buffer>();
  /** As a hearthd that is stopped: connections are taken, and nothing is answered. */
  isStopped = false;
  /** What was asked meanwhile. */
  ignored = 0;
  /** Commands whose client has gone before they ended. */
  abandoned = 0;
  stdinBytes = 0;
  readonly #server: Server = createServer((request, response) => void this.#answer(request, response));
  readonly #sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  readonly #left: Duplex[] = [];
  readonly #progressListeners = new Map<string, (event: ApiEvent) => void>();
  #onChange = Promise.withResolvers<void>();

  static async start(): Promise<FakeApi> {
    const fake = new FakeApi();
    mkdirSync(join(fake.home, "run"), { recursive: true });
    fake.#server.on("upgrade", (request, stream, head) => {
      if (fake.isStopped) return fake.#ignore(stream);
      fake.#sockets.handleUpgrade(request, stream, head, (socket) => fake.#serve(socket, request.url ?? ""));
    });
    await new Promise<void>((resolve) => fake.#server.listen(fake.socketPath, resolve));
    return fake;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    for (const stream of this.#left) stream.destroy();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.home, { recursive: true, force: true });
  }

  addVm(name: string, phase: VmPhase, more: Partial<CreateVm> = {}): Vm {
    const vm = fakeVm(name, phase, this.vms.size, more);
    this.vms.set(name, vm);
    return vm;
  }

  /** Resolves when `holds` does; asked again after everything that happens here. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await this.#onChange.promise;
  }

  #changed(): void {
    this.#onChange.resolve();
    this.#onChange = Promise.withResolvers();
  }

  #ignore(stream?: Duplex): void {
    if (stream !== undefined) this.#left.push(stream);
    this.ignored++;
    this.#changed();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.isStopped) return this.#ignore();
    const url = new URL(request.url ?? "/", "http://fake");
    response.setHeader(VERSION_HEADER, this.version);
    try {
      if (url.pathname === "/v1/events") return this.#subscribe(url, response);
      const body = await readAll(request);
      const isJson = request.headers["content-type"] === "application/json";
      const json: unknown = body.byteLength === 0 || !isJson ? undefined : JSON.parse(body.toString());
      this.requests.push({ method: request.method ?? "", path: url.pathname + url.search, body: json });
      const result = this.#route(request, url, json, body);
      const { breakOff, stall } = this.snapshots;
      if (Buffer.isBuffer(result) && (breakOff || stall))
        response.write(result.subarray(0, result.length / 2), () => breakOff && response.destroy());
      else if (Buffer.isBuffer(result)) response.end(result);
      else if (result === undefined) response.writeHead(204).end();
      else response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(result));
    } catch (error) {
      const wire = errorBody(error, "op-0123456789ab");
      response.writeHead(ERROR_CODES[wire.code].status).end(JSON.stringify({ error: wire }));
    }
    this.#changed();
  }

  #subscribe(url: URL, response: ServerResponse): void {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(": here\n\n");
    this.#progressListeners.set(url.searchParams.get("operation") ?? "", (event) => {
      response.write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    });
  }

  #route(request: IncomingMessage, url: URL, json: unknown, body: Buffer): unknown {
    const [, , noun, name, action] = url.pathname.split("/").map(decodeURIComponent);
    const { method } = request;
    if (noun === "daemon") return this.#daemon(name);
    if (noun === "doctor") return { ok: true, checks: [{ name: "qemu", verdict: "pass", found: "7.2" }] };
    if (noun === "firecracker") return this.#firecracker(method, json);
    if (noun === "images" || noun === "kernels") return this.#images(name);
    if (noun === "lost-found") return method === "POST" ? this.#create(json as CreateVm) : this.lostFound;
    if (noun === "volumes") return this.volumes.answer(method, name, json as CreateVolume);
    if (noun === "snapshots" || noun === "warm") {
      this.#tellProgress(request);
      return this.snapshots[noun](method, name, action, json ?? body, url.searchParams);
    }
    if (noun !== "vms") throw new HearthError("api.not_found", "No such route.");
    if (name === undefined)
      return method === "POST"
        ? this.#create(json as CreateVm)
        : this.#list(url.searchParams.getAll("filter"));
    const vm = this.#get(name);
    if (method === "DELETE") return this.#remove(vm, url.searchParams.get("force") === "true");
    if (method === "PATCH") return this.#change(vm, json as Partial<Omit<Vm, "labels">>);
    if (action === undefined) return vm;
    if (action === "files") {
      assertCan("copy", vm.phase, vm.name);
      return this.#files(method, url.searchParams.get("path") ?? "", body);
    }
    if (action === "stats")
      return {
        id: vm.id,
        name,
        phase: vm.phase,
        collectedAtMs: 0,
        cpuPercent: 12.5,
        rssBytes: 2 ** 28,
        vszBytes: 2 ** 30,
        diskAllocatedBytes: 2 ** 20,
        diskBytes: 2 ** 33,
      };
    if (action === "logs") return Buffer.from("[    0.000000] Linux\r\n\u001b[31mred\n");
    this.#tellProgress(request);
    if (action === "fork") return this.#fork(vm, json as ForkVm);
    return this.#act(vm, action as VmAction);
  }

  #daemon(action: string | undefined): unknown {
    if (action === "stop") return undefined;
    const folders = hearthFolders({ HEARTH_HOME: this.home }, "/");
    return {
      version: hearthVersion(),
      pid: process.pid,
      startedAtMs: 0,
      rssBytes: 1,
      vms: this.vms.size,
      running: 0,
      folders,
    };
  }

  #firecracker(method: string | undefined, json: unknown): unknown {
    const folder = "/cache/firecracker/1.12.1";
    const program = `${folder}/firecracker`;
    const jailer = `${folder}/jailer`;
    if (method === "POST") {
      const { version = "1.12.1" } = json as { version?: string };
      return { version, program, jailer, fresh: true };
    }
    const hint = "Install one that is verified: hearth firecracker install";
    const refused = { reason: "/usr/bin/firecracker is too old: 1.4.0.", hint };
    return [
      { source: "path", program: "/usr/bin/firecracker", used: false, refused },
      { version: "1.12.1", source: "installed", program, jailer, ownerUid: 0, mode: 0o755, used: true },
    ];
  }

  #images(ref: string | undefined): unknown {
    if (ref === undefined) return [];
    throw new HearthError("image.not_found", `There is no image ${ref}.`, {
      hint: "`hearth image ls` shows them.",
    });
  }

  #create(spec: CreateVm): Vm {
    const name = spec.name ?? "quiet-otter-4f2a";
    if (this.vms.has(name))
      throw new HearthError("name.taken", `${name} is taken.`, { hint: "Choose another." });
    const snapshot = spec.snapshot === undefined ? undefined : this.snapshots.get(spec.snapshot);
    return this.addVm(name, "created", { ...spec, image: spec.image ?? snapshot?.image });
  }

  #fork(vm: Vm, { count = 1, name, autoRemove }: ForkVm): Vm[] {
    assertCan("fork", vm.phase, vm.name);
    const names = Array.from({ length: count }, (_, index) => `${name ?? vm.name}-${index + 1}`);
    if (name !== undefined && count === 1) names[0] = name;
    return names.map((each) => this.addVm(each, "running", { autoRemove }));
  }

  #list(filters: readonly string[]): Vm[] {
    return [...this.vms.values()].filter(parseVmFilters(filters));
  }

  #get(name: string): Vm {
    const vm = this.vms.get(name);
    if (vm === undefined)
      throw new HearthError("vm.not_found", `There is no VM ${name}.`, {
        hint: "`hearth ls` shows the VMs.",
      });
    return vm;
  }

  #remove(vm: Vm, force: boolean): undefined {
    if (!force) assertCan("remove", vm.phase, vm.name);
    this.vms.delete(vm.name);
  }

  #change(vm: Vm, { labels, ...change }: Partial<Omit<Vm, "labels">> & Partial<Pick<SetVm, "labels">>): Vm {
    const changed = { ...vm, ...change, labels: changeLabels(vm.labels, labels ?? {}) };
    this.vms.set(vm.name, changed);
    return changed;
  }

  #act(vm: Vm, action: VmAction): Vm {
    assertCan(action, vm.phase, vm.name);
    const after = {
      start: "running",
      restart: "running",
      stop: "stopped",
      kill: "stopped",
      pause: "paused",
      resume: "running",
      suspend: "suspended",
    } as const;
    return this.#change(vm, { phase: after[action as keyof typeof after] });
  }

  #tellProgress(request: IncomingMessage): void {
    const operation = request.headers["hearth-operation"];
    if (typeof operation !== "string") return;
    const progress = { stage: "boot", text: "waiting for the agent" };
    this.#progressListeners.get(operation)?.({ type: "progress", atMs: 0, operation, progress });
  }

  #files(method: string | undefined, path: string, body: Buffer): unknown {
    if (method === "PUT") {
      this.written.set(path, body);
      return { entries: 1, bytes: body.byteLength };
    }
    const tar = this.files.get(path);
    if (tar === undefined) throw new HearthError("file.not_found", `There is no ${path} in the VM.`);
    return tar;
  }

  #serve(socket: WebSocket, path: string): void {
    socket.once("message", (first: Buffer) => {
      const message = JSON.parse(first.toString()) as Exec | Run;
      const isRun = "exec" in message;
      if (isRun) this.runs.push(message);
      const exec = isRun ? message.exec : message;
      this.execs.push(exec);
      const command = new FakeCommand(this, socket, exec, () => this.#changed());
      try {
        if (isRun) command.boot(this.#change(this.#create(message.vm), { phase: "running" }));
        else assertCan("exec", this.#get(decodeURIComponent(path.split("/")[3] ?? "")).phase, "it");
        command.start();
      } catch (error) {
        command.send({ type: "error", error: errorBody(error) });
        socket.close();
      }
      this.#changed();
    });
  }
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}
