import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { NO_ISOLATION } from "#drivers/boot-isolation.ts";
import { firecrackerFiles } from "#drivers/firecracker/boot-config.ts";
import { checkRunFiles, makeRunFiles } from "#drivers/firecracker/run-dir.ts";

const signal = AbortSignal.timeout(60_000);

for (const [what, replace] of Object.entries<(path: string) => void>({
  "a link to another VM's": (path) => {
    renameSync(path, `${path}.other`);
    symlinkSync(`${path}.other`, path);
  },
  "a file": (path) => {
    rmSync(path);
    writeFileSync(path, "");
  },
})) {
  test(`a VMM that has replaced a socket or a pipe by ${what} is refused`, async (t) => {
    for (const name of ["api", "vsock", "console", "log", "metrics"] as const) {
      const runDir = mkdtempSync(join(tmpdir(), "fc-run-"));
      const files = firecrackerFiles(runDir);
      await makeRunFiles({ runDir, disks: [] }, signal);
      const servers = [files.api, files.vsock].map((path) => createServer().listen(path));
      await Promise.all(servers.map((server) => new Promise((resolve) => server.once("listening", resolve))));
      t.after(() => {
        for (const server of servers) server.close();
        rmSync(runDir, { recursive: true });
      });
      checkRunFiles({ runDir, isolation: NO_ISOLATION });
      assert.throws(() => checkRunFiles({ runDir, isolation: { ...NO_ISOLATION, uid: 1_950_000_000 } }), {
        code: "path.unmanaged",
      });
      replace(files[name]);
      assert.throws(
        () => checkRunFiles({ runDir, isolation: NO_ISOLATION }),
        { code: "path.unmanaged" },
        name,
      );
    }
  });
}
