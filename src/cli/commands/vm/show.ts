import { formatDuration, formatDurationRounded } from "#base/durations.ts";
import { formatSize } from "#base/sizes.ts";
import type { Vm } from "#api/wire.ts";
import type { ExitReason } from "#model/vm-handle.ts";
import { PAUSE_CAUSES } from "#model/vm-state.ts";
import { parseVmName } from "#model/ids.ts";
import { formatLabels } from "#model/labels.ts";
import { describeRule } from "#model/policy-flags.ts";
import { formatPublished } from "#model/published-port.ts";
import { formatRateLimit } from "#model/rate-limit.ts";
import { formatVolumeMount } from "#model/volume.ts";
import { command } from "#cli/command.ts";

export default command({
  path: ["show"],
  summary: "Show the details of a VM",
  about: "Includes the paths of its files, the isolation that this host cannot provide, and the last error.",
  args: [{ name: "VM", help: "Name or ID of the VM", completes: "vm" }],
  flags: {},
  examples: [
    ["hearth show web", "Print the details as text"],
    ["hearth show web --json | jq .pid", "Print JSON for programs"],
  ],
  async run({ args, out, hearth }) {
    const vm = await (await hearth()).vm(parseVmName(args[0] ?? "")).show();
    if (out.wantsJson) return out.json(vm);
    out.fields([...identity(vm), ...machine(vm), ...defaults(vm), ...story(vm), ...paths(vm)]);
  },
});

type Pair = readonly [string, string | undefined];

function identity(vm: Vm): readonly Pair[] {
  const silent = vm.responsive === false ? ", but its VMM does not answer" : "";
  const recovering = vm.recovering === true ? ", and hearthd is recovering it" : "";
  return [
    ["name", vm.name],
    ["id", vm.id],
    ["state", `${vm.phase}${recovering}${silent}`],
    ["paused because", vm.pauseCause && PAUSE_CAUSES[vm.pauseCause]],
    ["image", `${vm.image} (${vm.imageDigest})`],
    ["owner", vm.owner],
    ...formatLabels(vm.labels).map((label): Pair => ["label", label]),
    ["generation", String(vm.generation)],
  ];
}

function machine(vm: Vm): readonly Pair[] {
  const emulated = vm.accel === "tcg" ? "emulated" : vm.accel;
  return [
    ["cpus", String(vm.cpus)],
    ["memory", formatSize(vm.memoryBytes)],
    ["disk", formatSize(vm.diskBytes)],
    ...vm.volumes.map((volume): Pair => ["volume", formatVolumeMount(volume)]),
    ["disk limit", vm.diskLimit && formatRateLimit(vm.diskLimit)],
    ["network", vm.network],
    ...policyLines(vm.policy),
    ["address", vm.address],
    ["private", vm.networks.length === 0 ? undefined : vm.networks.join(", ")],
    ...vm.publish.map((port): Pair => ["published", formatPublished(port)]),
    ["net limit", vm.netLimit && formatRateLimit(vm.netLimit)],
    ["init", vm.init],
    ["nested", vm.nested ? "yes" : undefined],
    ["driver", vm.driver === undefined ? undefined : [vm.driver, emulated].filter(Boolean).join(", ")],
    ["kernel", vm.kernel],
    ["boot args", vm.bootArgs.length === 0 ? undefined : vm.bootArgs.join(" ")],
    ["isolation", isolation(vm)],
    ...vm.caveats.map((sentence): Pair => ["caveat", sentence]),
    ...vm.guestWarnings.map((sentence): Pair => ["guest warning", sentence]),
  ];
}

function policyLines(policy: Vm["policy"]): readonly Pair[] {
  if (policy === undefined) return [];
  const rules = policy.rules.map((rule): Pair => ["policy", describeRule(rule)]);
  return [...rules, ["policy", `${policy.default} other public addresses`]];
}

/** Describes the isolation of the running VMM, or else of the next one. */
function isolation({ isolation: chosen, isolationInForce: now }: Vm): string {
  const yes = (is: boolean, what: string): string[] => (is ? [what] : []);
  if (now === undefined) {
    const parts = [
      ...yes(chosen.jail, "jail"),
      ...yes(chosen.pidNamespace, "pid namespace"),
      ...yes(chosen.cgroup, "cgroup"),
      ...yes(chosen.seccomp, "seccomp"),
    ];
    return parts.length === 0 ? "none" : parts.join(", ");
  }
  const parts = [
    ...yes(now.jail, now.uid === undefined ? "jail" : `jail (uid ${now.uid})`),
    ...yes(now.pidNamespace, "pid namespace"),
    ...yes(now.networkNamespace, "net namespace"),
    ...(now.cgroup === undefined ? [] : [`cgroup ${now.cgroup}`]),
    ...yes(now.seccomp, "seccomp"),
  ];
  return parts.length === 0 ? "none" : parts.join(", ");
}

function defaults(vm: Vm): readonly Pair[] {
  return [
    ["user", vm.user],
    ["workdir", vm.workdir],
    ...Object.entries(vm.env).map(([name, value]): Pair => ["env", `${name}=${value}`]),
    ["timeout", vm.lifetimeMs === undefined ? undefined : formatDuration(vm.lifetimeMs)],
    ["idle timeout", vm.idleTimeoutMs === undefined ? undefined : formatDuration(vm.idleTimeoutMs)],
    ["when stopped", vm.autoRemove ? "removed" : undefined],
    ["restart", vm.restart === "no" ? undefined : vm.restart],
  ];
}

function story(vm: Vm): readonly Pair[] {
  const { exit, lastError } = vm;
  const code = exit?.code === undefined ? undefined : `code ${exit.code}`;
  const ended = exit && [EXIT_WORDS[exit.reason], code, exit.signal];
  return [
    ["created", at(vm.createdAtMs)],
    ["started", vm.startedAtMs === undefined ? undefined : at(vm.startedAtMs)],
    ["start took", startTook(vm)],
    ["restored from", vm.restoredFrom],
    ["last used", at(vm.lastUsedAtMs)],
    ["ended", exit && `${at(exit.atMs)} (${ended?.filter(Boolean).join(", ")})`],
    ["last error", lastError && `${at(lastError.atMs)} ${lastError.code}: ${lastError.message}`],
    ["pid", vm.pid === undefined ? undefined : String(vm.pid)],
  ];
}

/** Formats the stages, such as `2040ms: host 40ms, disk 20ms, vmm 60ms, guest 1900ms, identity 20ms`. */
function startTook({ startStages: stages }: Vm): string | undefined {
  if (stages === undefined || stages.length === 0) return undefined;
  const sumMs = stages.reduce((sum, { tookMs }) => sum + tookMs, 0);
  const each = stages.map(({ stage, tookMs }) => `${stage} ${tookMs}ms`);
  return `${sumMs}ms: ${each.join(", ")}`;
}

const EXIT_WORDS = {
  guest: "powered off by the guest",
  rebooted: "rebooted by the guest",
  panicked: "kernel panic",
  asked: "stopped by Hearth",
  died: "its VMM died",
  unseen: "while hearthd was not running",
} as const satisfies Record<ExitReason, string>;

function paths(vm: Vm): readonly Pair[] {
  return [
    ["files", vm.paths.state],
    ["disk file", vm.paths.disk],
    ["console log", vm.paths.console],
    ["vmm log", vm.paths.vmmLog],
    ["sockets", vm.paths.sockets],
  ];
}

function at(ms: number): string {
  const ago = formatDurationRounded(Math.max(0, Date.now() - ms));
  return `${new Date(ms).toISOString()} (${ago} ago)`;
}
