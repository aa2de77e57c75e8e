/** What each error code means and what to do about it, for docs/errors.md. A hint of an error itself is more precise. */
import type { ErrorCode } from "#base/error.ts";

export const ERROR_MEANINGS: Readonly<Record<ErrorCode, readonly [meaning: string, fix: string]>> = {
  "input.invalid": [
    "A flag, a field or a name breaks its rule; nothing was done.",
    "Follow the rule in the message.",
  ],
  "input.too_large": [
    "A request or its variables are over the limit.",
    "Send less, or copy a file: `hearth cp`.",
  ],
  "name.taken": [
    "A VM, snapshot or volume of this name exists.",
    "Choose another name, or remove the other one.",
  ],
  "vm.not_found": ["No VM has this name or id.", "`hearth ls` shows all."],
  "vm.wrong_phase": [
    "The VM is in a phase in which this cannot be done.",
    "Bring it into the phase that the message names: start, stop or resume it.",
  ],
  "vm.busy": [
    "Something else is being done to the VM.",
    "Wait until `hearth operation ls` shows nothing of it, or `hearth kill` it.",
  ],
  "vm.boot_failed": [
    "The guest's agent did not answer in time, or its VMM ended before.",
    "Read the end of the console in the message, and all of it: `hearth logs VM`, `hearth logs --vmm VM`.",
  ],
  "vm.unclean": [
    "Something of an earlier start, stop or removal could not be undone.",
    "Remove the cause that the message names; the next `start`, `stop` or `rm -f` tries again.",
  ],
  "vm.identity_failed": [
    "A restored guest could not become a machine of its own, and did not run.",
    "`hearth logs VM`; start it again, or boot it: `hearth start --fresh`, `hearth create --cold`.",
  ],
  "vm.gone": ["The VM, or its VMM, ended meanwhile.", "`hearth show VM` says how it ended."],
  "vm.panicked": [
    "The guest kernel panicked.",
    "`hearth logs VM` shows its message; start the VM again, or give it `--restart on-failure`.",
  ],
  "vmm.failed": [
    "QEMU or Firecracker refused something, or ended.",
    "`hearth logs --vmm VM`, and `hearth doctor`.",
  ],
  "vmm.install_failed": [
    "Firecracker could not be installed.",
    "Remove the cause that the message names, and try again.",
  ],
  "vmm.not_isolated": [
    "The VMM's isolation is not what was asked for, so it was ended before the guest ran.",
    "Look for what moves or changes processes on the host; `hearth doctor`.",
  ],
  "vmm.missing": ["No VMM is installed that can run this VM.", "`hearth doctor` names the package."],
  "vmm.unresponsive": [
    "The VMM did not answer in time.",
    "If the host is not overloaded: `hearth kill VM`, then start it.",
  ],
  "agent.unreachable": [
    "The guest's agent does not answer.",
    "`hearth show VM` and `hearth logs VM`; `hearth restart VM` boots it anew.",
  ],
  "agent.failed": [
    "The agent could not do what it was asked for.",
    "Read the guest's reason in the message.",
  ],
  "exec.not_found": ["The command does not exist in the guest.", "Check its name and the guest's PATH."],
  "exec.not_executable": [
    "The command's file cannot be executed.",
    "`chmod +x` it in the guest, or name its interpreter.",
  ],
  "exec.bad_user": [
    "The guest has no such user or group.",
    "Use one of the guest's /etc/passwd, or numbers.",
  ],
  "guest.disk_full": [
    "The guest's own disk is full.",
    "Remove files in the guest, or stop the VM and enlarge it: `hearth set --disk SIZE VM`.",
  ],
  "file.not_found": [
    "The file or directory does not exist.",
    "Check the path, on the side that the message names.",
  ],
  "file.refused": [
    "The file cannot be read or written as asked.",
    "Follow the reason in the message; see `hearth help cp`.",
  ],
  "file.skipped": [
    "A copy left out what it cannot copy, such as devices; the rest was copied.",
    "Copy what the message names in another way, or ignore it.",
  ],
  "image.not_found": [
    "No image has this name or digest.",
    "`hearth image ls`; build it: `hearth image build IMAGE`.",
  ],
  "image.build_failed": [
    "The image could not be built; nothing was kept.",
    "Read the tool's last lines in the message; check network and disk.",
  ],
  "image.corrupt": [
    "A file of the image is not what was built.",
    "Build it again: `hearth image build --fresh IMAGE`.",
  ],
  "image.in_use": ["VMs or snapshots need the image.", "Remove those that the message names first."],
  "kernel.unsupported": ["The kernel cannot be used.", "Choose another one of `hearth kernel ls`."],
  "disk.missing": [
    "The VM's disk does not exist.",
    "Mount the file system that it is on, restore a backup, or begin anew: `hearth start --fresh VM`.",
  ],
  "disk.corrupt": [
    "A layer of the disk is damaged or not what it should be.",
    "Restore it from a backup or a snapshot.",
  ],
  "volume.not_found": ["No volume has this name.", "`hearth volume ls` shows all."],
  "volume.in_use": [
    "A VM that runs has the volume, or a VM names it.",
    "Stop the VM, or detach the volume: `hearth volume detach`.",
  ],
  "snapshot.not_found": [
    "No snapshot or template has this name or id.",
    "`hearth snapshot ls`, `hearth template ls`.",
  ],
  "snapshot.in_use": [
    "A VM maps the snapshot's memory, or is yet to start from it.",
    "Stop, start or remove the VMs that the message names.",
  ],
  "snapshot.failed": [
    "The VMM could not save or load the memory.",
    "Read its reason in the message; `--disk-only` and `--cold` do without the memory.",
  ],
  "snapshot.corrupt": [
    "A file of the snapshot is not what was saved.",
    "Restore it from a backup, or remove the snapshot.",
  ],
  "snapshot.mismatch": [
    "The memory was saved on a host, or with a VMM or a Hearth, that differs.",
    "Use its disk alone: `hearth create --snapshot NAME --cold`.",
  ],
  "archive.corrupt": [
    "The archive is damaged, or is none of Hearth's; nothing was kept.",
    "Copy or export it again.",
  ],
  "feature.missing": [
    "The driver, the VMM or the guest cannot do this.",
    "Choose another way that the message names; docs/drivers.md has the tables.",
  ],
  "download.failed": [
    "A download broke off, or its hash differs.",
    "Check the network and the mirror; try again.",
  ],
  "host.tool_missing": [
    "A program of the host is not installed.",
    "Install the package that the hint names.",
  ],
  "host.tool_failed": ["A program of the host failed.", "Read its last lines in the message."],
  "host.memory_short": [
    "The VM's memory does not fit into what the host has available.",
    "Stop other VMs, give it less, or set `[memory]` in config.toml.",
  ],
  "host.disk_full": [
    "The host's disk is full.",
    "Free some space: `hearth ls`, `hearth image ls`, `hearth volume ls` show what takes it.",
  ],
  "host.read_only": [
    "A file system of the host is read-only.",
    "Make it writable, or set HEARTH_HOME to one that is.",
  ],
  "host.path_too_long": [
    "A socket's path would have more than 107 bytes.",
    "Set HEARTH_HOME or XDG_RUNTIME_DIR to a shorter path.",
  ],
  "host.uids_used_up": [
    "All uids for VMs are in use.",
    "Stop VMs, or widen `uid_count` of `[isolation]` in config.toml.",
  ],
  "host.uid_busy": ["A process still has the uid of a VM that has ended.", "`ps -U UID` shows it; end it."],
  "host.uid_unmapped": [
    "The user namespace of hearthd has no such uid.",
    "Set `uid_first` of `[isolation]` to a range of /proc/self/uid_map.",
  ],
  "host.helper_gone": [
    "hearthd runs without rights beside a helper that has them, and the helper has ended. hearthd ends, too; VMs keep running.",
    "Start hearthd and its helper again. The helper's own output says why it ended.",
  ],
  "host.lock_held": [
    "Another process holds the lock, such as another hearthd.",
    "`hearth daemon status` shows it.",
  ],
  "path.unmanaged": [
    "A path leads out of Hearth's own directories, so nothing was done to it.",
    "Look for links that somebody has put into them.",
  ],
  "store.busy": [
    "Another program has locked the database.",
    "End it; `hearth daemon status` shows a hearthd that runs.",
  ],
  "store.corrupt": [
    "The database, or a row of it, is damaged.",
    "Restore it from a backup; see docs/lost-and-found.md.",
  ],
  "store.too_new": [
    "A newer Hearth has written the database.",
    "Run that one, or set HEARTH_HOME to another directory.",
  ],
  "config.invalid": [
    "config.toml cannot be read, or breaks a rule.",
    "Correct the keys that the message names; see docs/configuration.md.",
  ],
  "daemon.unreachable": [
    "Nobody listens on hearthd's socket.",
    "`hearth daemon start`, and `hearth daemon logs`.",
  ],
  "daemon.stopping": ["hearthd is ending.", "Try again: the next command starts it."],
  "daemon.start_failed": ["hearthd could not start.", "`hearth daemon logs` has the reason."],
  "daemon.version": [
    "The client and hearthd are of different versions.",
    "Restart hearthd: `hearth daemon stop`; VMs keep running.",
  ],
  "api.not_found": ["The API has no such path.", "GET /openapi.json has all."],
  "api.wrong_method": ["The API has this path with another method.", "Use one of the header `allow`."],
  "api.websocket_only": ["This path is a WebSocket.", "Send a handshake; see src/api/exec-stream.ts."],
  "operation.cancelled": ["The operation was cancelled and undone.", "Nothing, or try again."],
  "operation.not_found": ["No operation has this id, or it is forgotten.", "`hearth operation ls --all`."],
  "operation.taken": ["An operation of this id is under way.", "Use a new id for each request."],
  "operation.lasting": [
    "A stop that has begun is finished, and cannot be cancelled.",
    "Wait for it; `hearth kill VM` ends the VM at once.",
  ],
  "operation.too_many": ["Too many detached operations are under way.", "Wait for one, or cancel it."],
  "operation.not_detachable": ["This request cannot be detached.", "Leave out `hearth-detach`."],
  "operation.taken_over": [
    "A kill or a forced removal has ended what was under way.",
    "Nothing: somebody wanted the VM to end.",
  ],
  "operation.timed_out": [
    "The time was up.",
    "Give it more, or look why it takes so long: `hearth daemon logs`.",
  ],
  "internal.bug": [
    "Hearth met what it did not foresee.",
    "Report it with the operation's lines of `hearth daemon logs`.",
  ],
};
