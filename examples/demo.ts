/**
 * A tour of the SDK: `node examples/demo.ts`. It says what this host cannot do, and skips that. BB-012.
 *
 * A program of yours writes `from "hearthd"`, as here.
 */
import { Hearth } from "hearthd";

const hearth = await Hearth.connect();

const { checks } = await hearth.doctor();
for (const { name, verdict, found } of checks)
  if (verdict !== "pass") console.log(`${verdict}: ${name}: ${found}`);
const kvm = checks.find(({ name }) => name === "kvm");
if (kvm?.verdict !== "pass")
  console.log("skipped: KVM, and Firecracker, which needs it; the guest is emulated");
else if ((await hearth.firecracker.list()).length === 0)
  console.log("skipped: Firecracker, which is not installed; hearth.firecracker.install() does that");

const vm = await hearth.vms.create(
  { image: "debian", cpus: 1, memoryBytes: 512 * 1024 ** 2 },
  { onProgress: ({ stage, text }) => console.log(`${stage}: ${text}`) },
);
try {
  await vm.start();
  const { stdout } = await vm.exec(["sh", "-c", "echo $(hostname) runs $(uname -sr)"]);
  console.log(stdout.trim());

  const failing = await vm.exec(["sh", "-c", "exit 42"]);
  console.log(`an exit code arrives as it is: ${failing.exitCode}`);

  await vm.exec(["sh", "-c", "echo kept > /root/note"]);
  await vm.restart();
  console.log(`after a restart the note says: ${(await vm.exec(["cat", "/root/note"])).stdout.trim()}`);

  const { phase, driver, startStages = [] } = await vm.show();
  const took = startStages.map(({ stage, tookMs }) => `${stage} ${tookMs}ms`);
  console.log(`${phase} on ${driver}, started by: ${took.join(", ")}`);

  await vm.pause();
  console.log(`its CPUs are ${(await vm.show()).phase}`);
  await vm.resume();

  await vm.exec(["sh", "-c", "echo only in memory > /run/note"]);
  const [fork] = await vm.fork();
  console.log(`a fork has it, too: ${(await fork?.exec(["cat", "/run/note"]))?.stdout.trim()}`);
  await fork?.remove({ force: true });

  const { rssBytes, diskAllocatedBytes } = await vm.stats();
  console.log(
    `it takes ${Math.round(rssBytes / 2 ** 20)} MiB of memory and ${Math.round(diskAllocatedBytes / 2 ** 10)} KiB of disk`,
  );
} finally {
  await vm.remove({ force: true });
}
console.log("skipped: tenants, which this version does not have");
