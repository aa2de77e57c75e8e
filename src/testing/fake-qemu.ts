import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Writes a program in QEMU's place, with firmware, and returns its path. It answers what hearthd asks an installed
 * QEMU; for any other command line it runs `script`.
 */
export function writeFakeQemu(dir: string, script: string, version = "7.2.22"): string {
  const share = join(dir, "share/qemu");
  const bin = join(dir, "bin");
  for (const path of [share, bin]) mkdirSync(path, { recursive: true });
  writeFileSync(join(share, "qboot.rom"), "");
  const program = join(bin, "qemu-fake");
  const lines = [
    "#!/bin/sh",
    'case "$*" in',
    `  --version) echo "QEMU emulator version ${version}"; exit ;;`,
    "  '-M none -netdev help') echo user; exit ;;",
    "  '-L help') exit ;;",
    "esac",
    script,
    "",
  ];
  writeFileSync(program, lines.join("\n"), { mode: 0o755 });
  return program;
}
