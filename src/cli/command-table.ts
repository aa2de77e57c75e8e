/** Every command with its one line. A command's file is loaded when it is called. */
import type { Command } from "#cli/command.ts";

export type Row = {
  readonly summary: string;
  readonly group:
    | "Virtual machines"
    | "Snapshots and templates"
    | "Networks"
    | "Volumes"
    | "Images and kernels"
    | "Hearth itself";
  readonly load: () => Promise<{ readonly default: Command }>;
  /** Other names, which users know from elsewhere. */
  readonly aliases?: readonly string[];
};

export const COMMANDS: Readonly<Record<string, Row>> = {
  run: {
    group: "Virtual machines",
    summary: "Create a VM and run a command in it",
    load: () => import("#cli/commands/vm/run.ts"),
  },
  create: {
    group: "Virtual machines",
    summary: "Create a VM and start it",
    load: () => import("#cli/commands/vm/create.ts"),
  },
  exec: {
    group: "Virtual machines",
    summary: "Run a command in a VM",
    load: () => import("#cli/commands/vm/exec.ts"),
  },
  shell: {
    group: "Virtual machines",
    summary: "Open a shell in a VM",
    load: () => import("#cli/commands/vm/shell.ts"),
    aliases: ["ssh", "connect"],
  },
  cp: {
    group: "Virtual machines",
    summary: "Copy files between the host and a VM",
    load: () => import("#cli/commands/vm/cp.ts"),
  },
  ports: {
    group: "Virtual machines",
    summary: "List the ports of a VM on which programs listen",
    load: () => import("#cli/commands/vm/ports.ts"),
  },
  "port-forward": {
    group: "Virtual machines",
    summary: "Forward ports of this host to a VM",
    load: () => import("#cli/commands/vm/port-forward.ts"),
  },
  ls: {
    group: "Virtual machines",
    summary: "List VMs",
    load: () => import("#cli/commands/vm/ls.ts"),
    aliases: ["list", "ps"],
  },
  show: {
    group: "Virtual machines",
    summary: "Show the details of a VM",
    load: () => import("#cli/commands/vm/show.ts"),
    aliases: ["inspect"],
  },
  logs: {
    group: "Virtual machines",
    summary: "Print the console of a VM, or the log of its VMM",
    load: () => import("#cli/commands/vm/logs.ts"),
  },
  stats: {
    group: "Virtual machines",
    summary: "Show the resource usage of VMs",
    load: () => import("#cli/commands/vm/stats.ts"),
    aliases: ["top"],
  },
  start: {
    group: "Virtual machines",
    summary: "Start VMs",
    load: () => import("#cli/commands/vm/start.ts"),
  },
  stop: {
    group: "Virtual machines",
    summary: "Stop VMs with a guest shutdown",
    load: () => import("#cli/commands/vm/stop.ts"),
  },
  restart: {
    group: "Virtual machines",
    summary: "Stop VMs and start them again",
    load: () => import("#cli/commands/vm/restart.ts"),
    aliases: ["reboot"],
  },
  kill: {
    group: "Virtual machines",
    summary: "Stop VMs immediately, without a guest shutdown",
    load: () => import("#cli/commands/vm/kill.ts"),
  },
  pause: {
    group: "Virtual machines",
    summary: "Pause VMs",
    load: () => import("#cli/commands/vm/pause.ts"),
  },
  resume: {
    group: "Virtual machines",
    summary: "Resume paused or suspended VMs",
    load: () => import("#cli/commands/vm/resume.ts"),
    aliases: ["unpause", "wake"],
  },
  suspend: {
    group: "Virtual machines",
    summary: "Suspend VMs to disk",
    load: () => import("#cli/commands/vm/suspend.ts"),
  },
  fork: {
    group: "Virtual machines",
    summary: "Create running copies of a running VM",
    load: () => import("#cli/commands/vm/fork.ts"),
  },
  set: {
    group: "Virtual machines",
    summary: "Change a VM's sizes, limits, labels or restart policy",
    load: () => import("#cli/commands/vm/set.ts"),
  },
  rm: {
    group: "Virtual machines",
    summary: "Remove VMs and their disks",
    load: () => import("#cli/commands/vm/rm.ts"),
    aliases: ["remove", "delete"],
  },
  prune: {
    group: "Virtual machines",
    summary: "Remove all stopped VMs",
    load: () => import("#cli/commands/vm/prune.ts"),
  },
  "snapshot create": {
    group: "Snapshots and templates",
    summary: "Create a snapshot of a VM",
    load: () => import("#cli/commands/snapshot/create.ts"),
  },
  "snapshot ls": {
    group: "Snapshots and templates",
    summary: "List snapshots",
    load: () => import("#cli/commands/snapshot/ls.ts"),
    aliases: ["snapshots", "snapshot list"],
  },
  "snapshot show": {
    group: "Snapshots and templates",
    summary: "Show the details of a snapshot",
    load: () => import("#cli/commands/snapshot/show.ts"),
    aliases: ["snapshot inspect"],
  },
  "snapshot restore": {
    group: "Snapshots and templates",
    summary: "Restore a VM to a snapshot",
    load: () => import("#cli/commands/snapshot/restore.ts"),
  },
  "snapshot export": {
    group: "Snapshots and templates",
    summary: "Export a snapshot to a file",
    load: () => import("#cli/commands/snapshot/export.ts"),
  },
  "snapshot import": {
    group: "Snapshots and templates",
    summary: "Import a snapshot from a file",
    load: () => import("#cli/commands/snapshot/import.ts"),
  },
  "snapshot rm": {
    group: "Snapshots and templates",
    summary: "Remove snapshots",
    load: () => import("#cli/commands/snapshot/rm.ts"),
    aliases: ["snapshot remove", "snapshot delete"],
  },
  "template ls": {
    group: "Snapshots and templates",
    summary: "List templates",
    load: () => import("#cli/commands/template/ls.ts"),
    aliases: ["templates", "template list"],
  },
  "template build": {
    group: "Snapshots and templates",
    summary: "Build a template before it is needed",
    load: () => import("#cli/commands/template/build.ts"),
  },
  "template rm": {
    group: "Snapshots and templates",
    summary: "Remove templates",
    load: () => import("#cli/commands/template/rm.ts"),
    aliases: ["template remove", "template delete"],
  },
  "template prune": {
    group: "Snapshots and templates",
    summary: "Remove all unused templates",
    load: () => import("#cli/commands/template/prune.ts"),
  },
  "network ls": {
    group: "Networks",
    summary: "List the private networks of VMs",
    load: () => import("#cli/commands/network/ls.ts"),
    aliases: ["network list"],
  },
  "network policy": {
    group: "Networks",
    summary: "Show the network policy of a VM",
    load: () => import("#cli/commands/network/policy.ts"),
  },
  "network set": {
    group: "Networks",
    summary: "Replace the network policy of a VM",
    load: () => import("#cli/commands/network/set.ts"),
  },
  "network dns": {
    group: "Networks",
    summary: "Answer names of VMs for programs of this host",
    load: () => import("#cli/commands/network/dns.ts"),
  },
  "network test": {
    group: "Networks",
    summary: "Test whether a VM reaches a TCP port",
    load: () => import("#cli/commands/network/test.ts"),
  },
  "volume create": {
    group: "Volumes",
    summary: "Create a volume: a disk that outlives VMs",
    load: () => import("#cli/commands/volume/create.ts"),
  },
  "volume ls": {
    group: "Volumes",
    summary: "List volumes",
    load: () => import("#cli/commands/volume/ls.ts"),
    aliases: ["volumes", "volume list"],
  },
  "volume show": {
    group: "Volumes",
    summary: "Show the details of a volume",
    load: () => import("#cli/commands/volume/show.ts"),
    aliases: ["volume inspect"],
  },
  "volume attach": {
    group: "Volumes",
    summary: "Attach a volume to a VM",
    load: () => import("#cli/commands/volume/attach.ts"),
  },
  "volume detach": {
    group: "Volumes",
    summary: "Detach a volume from a VM",
    load: () => import("#cli/commands/volume/detach.ts"),
  },
  "volume rm": {
    group: "Volumes",
    summary: "Remove volumes and their data",
    load: () => import("#cli/commands/volume/rm.ts"),
    aliases: ["volume remove", "volume delete"],
  },
  "image ls": {
    group: "Images and kernels",
    summary: "List cached images",
    load: () => import("#cli/commands/image/ls.ts"),
    aliases: ["images", "image list"],
  },
  "image build": {
    group: "Images and kernels",
    summary: "Build an image",
    load: () => import("#cli/commands/image/build.ts"),
  },
  "image show": {
    group: "Images and kernels",
    summary: "Show the details of an image",
    load: () => import("#cli/commands/image/show.ts"),
    aliases: ["image inspect"],
  },
  "image rm": {
    group: "Images and kernels",
    summary: "Remove images",
    load: () => import("#cli/commands/image/rm.ts"),
    aliases: ["image remove", "image delete"],
  },
  "kernel ls": {
    group: "Images and kernels",
    summary: "List cached kernels",
    load: () => import("#cli/commands/kernel/ls.ts"),
    aliases: ["kernel list"],
  },
  "firecracker install": {
    group: "Hearth itself",
    summary: "Install Firecracker and its jailer",
    load: () => import("#cli/commands/firecracker/install.ts"),
  },
  "firecracker ls": {
    group: "Hearth itself",
    summary: "List Firecracker installations",
    load: () => import("#cli/commands/firecracker/ls.ts"),
    aliases: ["firecracker list"],
  },
  "operation ls": {
    group: "Hearth itself",
    summary: "List operations: requests that hearthd works on",
    load: () => import("#cli/commands/operation/ls.ts"),
    aliases: ["operations", "operation list"],
  },
  "operation show": {
    group: "Hearth itself",
    summary: "Show the details of an operation",
    load: () => import("#cli/commands/operation/show.ts"),
    aliases: ["operation inspect"],
  },
  "operation wait": {
    group: "Hearth itself",
    summary: "Wait until operations end",
    load: () => import("#cli/commands/operation/wait.ts"),
  },
  "operation cancel": {
    group: "Hearth itself",
    summary: "Cancel operations and undo their changes",
    load: () => import("#cli/commands/operation/cancel.ts"),
  },
  "daemon start": {
    group: "Hearth itself",
    summary: "Start hearthd",
    load: () => import("#cli/commands/daemon/start.ts"),
  },
  "daemon stop": {
    group: "Hearth itself",
    summary: "Stop hearthd; VMs keep running",
    load: () => import("#cli/commands/daemon/stop.ts"),
  },
  "daemon status": {
    group: "Hearth itself",
    summary: "Show the status of hearthd",
    load: () => import("#cli/commands/daemon/status.ts"),
  },
  "daemon logs": {
    group: "Hearth itself",
    summary: "Print the log of hearthd",
    load: () => import("#cli/commands/daemon/logs.ts"),
  },
  doctor: {
    group: "Hearth itself",
    summary: "Check this host, and show how to fix problems",
    load: () => import("#cli/commands/system/doctor.ts"),
  },
  "system recover": {
    group: "Hearth itself",
    summary: "List lost+found, or create a VM from a disk in it",
    load: () => import("#cli/commands/system/recover.ts"),
  },
  version: {
    group: "Hearth itself",
    summary: "Print the version of Hearth",
    load: () => import("#cli/commands/system/version.ts"),
  },
  completion: {
    group: "Hearth itself",
    summary: "Print a shell completion script",
    load: () => import("#cli/commands/system/completion.ts"),
  },
  help: {
    group: "Hearth itself",
    summary: "Show the help of a command",
    load: () => import("#cli/commands/system/help.ts"),
  },
};
