import type { SetVm } from "#api/wire.ts";
import { HearthError } from "#base/error.ts";
import { parseVmName } from "#model/ids.ts";
import { formatLabels, parseLabelChanges } from "#model/labels.ts";
import { formatSize, formatSizeRounded } from "#base/sizes.ts";
import { formatRateLimit } from "#model/rate-limit.ts";
import type { RestartPolicy } from "#model/restart-policy.ts";
import { command } from "#cli/command.ts";
import { LIMIT_FLAGS, parseLimits, parseSizes, RESTART_FLAG, SIZE_FLAGS } from "#cli/vm-flags.ts";

export default command({
  path: ["set"],
  summary: "Change a VM's sizes, limits, labels or restart policy",
  about:
    "Labels, limits and the restart policy change at once, also while the VM runs. So does memory, up to " +
    "the size that the VM was started with: the guest gives back what it can spare. CPUs, the disk size " +
    "and more memory can only be changed while the VM is stopped. A disk can only grow; its file system " +
    "grows at the next start.",
  args: [{ name: "VM", help: "Name or ID of the VM", completes: "vm" }],
  flags: {
    ...SIZE_FLAGS,
    ...LIMIT_FLAGS,
    ...RESTART_FLAG,
    label: { short: "l", value: "KEY=VALUE", many: true, help: "Set a label; `KEY-` removes one" },
  },
  examples: [
    ["hearth set web --memory 1G", "Take memory back from a running VM"],
    ["hearth set web --cpus 4 --disk 32G", "Change CPUs and disk of a stopped VM"],
    ["hearth set web --disk-limit bw=20M/s,ops=500/s", "Limit disk I/O; `none` removes the limit"],
    ["hearth set web --restart always", "Start the VM again whenever it ends"],
    ["hearth set web --label team=web --label old-", "Set one label and remove another"],
  ],
  async run({ args, flags, out, hearth }) {
    const name = parseVmName(args[0] ?? "");
    const { restart } = flags;
    const change: SetVm = {
      ...parseSizes(flags),
      ...parseLimits(flags),
      ...(flags.label.length > 0 && { labels: parseLabelChanges(flags.label) }),
      ...(restart !== undefined && { restart: restart as RestartPolicy }),
    };
    if (Object.keys(change).length === 0) {
      const hint = `Write, for instance, \`hearth set ${name} --memory 4G\`.`;
      throw new HearthError("input.invalid", "set: nothing to change.", { hint });
    }
    const client = (await hearth()).vm(name);
    const vm = await client.set(change);
    if (out.wantsJson) return out.json(vm);
    const limits = [
      vm.diskLimit && `disk limit ${formatRateLimit(vm.diskLimit)}`,
      vm.netLimit && `net limit ${formatRateLimit(vm.netLimit)}`,
    ];
    const policies = vm.restart === "no" ? [] : [`restart ${vm.restart}`];
    const sizes = [
      `${vm.cpus} CPUs`,
      `${formatSize(vm.memoryBytes)} memory`,
      `${formatSize(vm.diskBytes)} disk`,
    ];
    const labels = Object.keys(vm.labels).length > 0 && `labels ${formatLabels(vm.labels).join(" ")}`;
    out.line(`${vm.name}: ${[...sizes, ...limits, labels, ...policies].filter(Boolean).join(", ")}`);
    if (change.memoryBytes === undefined || vm.phase !== "running") return;
    const { memoryBytes } = await client.stats();
    if (memoryBytes !== undefined && memoryBytes > vm.memoryBytes)
      out.note(`The guest has not given back more memory so far: it has ${formatSizeRounded(memoryBytes)}.`);
  },
});
