/** A site with releases of Firecracker, on this machine; it can also lie, stall and cut short. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { gzipSync } from "node:zlib";
import { pack } from "tar-stream";
import type { Header } from "tar-stream";
import { sha256 } from "#host/hash-file.ts";

export type ReleaseMember = Partial<Header> & { readonly name: string; readonly content?: string };

/** A program that only says its version. */
export function versionScript(name: "Firecracker" | "Jailer", version: string): string {
  return `#!/bin/sh\necho "${name} v${version}"\n`;
}

/** Returns the files of a release for x86_64, as far as Hearth looks. */
export function releaseMembers(version: string, says = version): ReleaseMember[] {
  const name = `v${version}-x86_64`;
  return [
    { name: `release-${name}`, type: "directory" },
    { name: `release-${name}/LICENSE`, content: "Apache" },
    { name: `release-${name}/firecracker-${name}`, content: versionScript("Firecracker", says) },
    { name: `release-${name}/firecracker-${name}.debug`, content: "symbols" },
    { name: `release-${name}/jailer-${name}`, content: versionScript("Jailer", says) },
  ];
}

export async function packArchive(members: readonly ReleaseMember[]): Promise<Buffer> {
  const tar = pack();
  for (const { content = "", ...header } of members) tar.entry({ mode: 0o644, ...header }, content);
  tar.finalize();
  return gzipSync(await buffer(tar));
}

export type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** `using` it ends it, with all connections. */
export class ReleaseServer implements AsyncDisposable {
  /** By path below the base; a test replaces what it wants to be wrong. */
  readonly answers = new Map<string, Answer>();
  readonly asked: string[] = [];
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(): Promise<ReleaseServer> {
    const server = createServer((request, response) => {
      const path = request.url ?? "";
      site.asked.push(path);
      const answer = site.answers.get(path);
      if (answer === undefined) response.writeHead(404).end();
      else answer(request, response);
    });
    const site = new ReleaseServer(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return site;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Publishes a release with its checksum, as the newest one. */
  async publish(version: string, members = releaseMembers(version)): Promise<Buffer> {
    const archive = await packArchive(members);
    const path = archivePath(version);
    this.answers.set(path, (_, response) => void response.end(archive));
    this.sumIs(version, sha256(archive));
    this.redirect("/latest", `/tag/v${version}`);
    return archive;
  }

  sumIs(version: string, sum: string): void {
    const name = archivePath(version).split("/").at(-1) ?? "";
    this.text(`${archivePath(version)}.sha256.txt`, `${sum}  ${name}\n`);
  }

  text(path: string, text: string): void {
    this.answers.set(path, (_, response) => void response.end(text));
  }

  redirect(path: string, location: string): void {
    this.answers.set(path, (_, response) => void response.writeHead(302, { location }).end());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, "close");
  }
}

export function archivePath(version: string): string {
  return `/download/v${version}/firecracker-v${version}-x86_64.tgz`;
}
