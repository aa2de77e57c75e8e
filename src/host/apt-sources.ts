/** Reads apt's source files in both of their forms: sources.list(5). */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

export type AptSource = {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** The path of a keyring. */
  readonly signedBy?: string | undefined;
  /** True if the administrator accepts this source without a signature. */
  readonly trusted: boolean;
};

/** Returns the host's sources; none on a host without apt. Disabled entries and source packages are left out. */
export function readAptSources(aptDir = "/etc/apt"): AptSource[] {
  const files = [join(aptDir, "sources.list")];
  const parts = join(aptDir, "sources.list.d");
  if (existsSync(parts))
    files.push(
      ...readdirSync(parts)
        .toSorted()
        .map((name) => join(parts, name)),
    );
  return files.flatMap((path) => {
    if (!existsSync(path)) return [];
    if (path.endsWith(".sources")) return parseSourcesStanzas(readFileSync(path, "utf8"));
    return path.endsWith(".list") ? parseSourcesLines(readFileSync(path, "utf8")) : [];
  });
}

/** Parses the deb822 form, `*.sources`. */
export function parseSourcesStanzas(text: string): AptSource[] {
  const stanzas = text
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .join("\n")
    .split(/\n\s*\n/);
  return stanzas.flatMap((stanza) => {
    const field = parseFields(stanza);
    const words = (name: string): string[] => (field.get(name) ?? "").split(/\s+/).filter(Boolean);
    if (!words("types").includes("deb") || isNo(field.get("enabled"))) return [];
    const signedBy = field.get("signed-by");
    return [
      {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        // The field may contain the key itself. The keyrings that apt trusts anyway must then suffice.
        signedBy: signedBy?.startsWith("/") ? signedBy : undefined,
        trusted: isYes(field.get("trusted")),
      },
    ];
  });
}

/** Parses the one-line form: `deb [signed-by=…] URI SUITE COMPONENT…`. */
export function parseSourcesLines(text: string): AptSource[] {
  return text.split("\n").flatMap((line) => {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (match === null) return [];
    const [, options = "", uri = "", suite = "", components = ""] = match;
    const signedBy = /(?:^|\s)signed-by=(\/[^\s,]+)/.exec(options)?.[1];
    const trusted = isYes(/(?:^|\s)trusted=(\S+)/.exec(options)?.[1]);
    const names = components.split(/\s+/).filter(Boolean);
    return [{ uris: [uri], suites: [suite], components: names, signedBy, trusted }];
  });
}

/** Returns the fields by their names in lower case. A line that starts with a space continues the field before it. */
function parseFields(stanza: string): Map<string, string> {
  const fields = new Map<string, string>();
  let name = "";
  for (const line of stanza.split("\n")) {
    const start = /^([A-Za-z][A-Za-z-]*)\s*:\s*(.*)$/.exec(line);
    if (start !== null) {
      name = (start[1] ?? "").toLowerCase();
      fields.set(name, (start[2] ?? "").trim());
    } else if (/^\s+\S/.test(line) && name !== "") {
      fields.set(name, `${fields.get(name) ?? ""} ${line.trim()}`.trim());
    }
  }
  return fields;
}

function isYes(value: string | undefined): boolean {
  return /^(yes|true|1|on)$/i.test(value ?? "");
}

function isNo(value: string | undefined): boolean {
  return /^(no|false|0|off)$/i.test(value ?? "");
}
