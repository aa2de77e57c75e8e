/** Meanings and remedies of the error codes, for docs/errors.md. A hint of an error itself is more precise. */
import type { ErrorCode } from "#base/error.ts";

export const ERROR_MEANINGS: Readonly<Record<ErrorCode, readonly [meaning: string, fix: string]>> = {
  "input.invalid": [
    "A flag, an argument or a field is invalid. Nothing was changed.",
    "Follow the rule in the message.",
  ],
  "input.too_large": [
    "The JSON body of the request is larger than 1 MiB; long environment variables are the usual reason.",
    "Send less, or copy the data as a file: `hearth cp`.",
  ],
  "name.taken": [
    "A VM, snapshot or volume with this name already exists.",
    "Choose another name, or remove the existing one.",
  ],
  "port.taken": [
    "Another VM, or a program of the host, has the port of the host that is to be published.",
    "Publish another port, or remove what the message names.",
  ],
  "vm.not_found": ["There is no VM with this name or ID.", "`hearth ls` lists the VMs."],
  "vm.wrong_phase": [
    "This is not possible in the current state of the VM.",
    "Start, stop or resume the VM first, as the message says.",
  ],
  "vm.busy": [
    "Another operation on the VM is in progress.",
    "Wait until it has finished (`hearth operation ls`), or stop the VM with `hearth kill`.",
  ],
  "vm.boot_failed": [
    "The VM did not boot: its agent did not answer in time, or its VMM ended first.",
    "Read the end of the console in the message. Full logs: `hearth logs VM`, `hearth logs --vmm VM`.",
  ],
  "vm.unclean": [
    "An earlier start, stop or removal could not be cleaned up.",
    "Remove the cause in the message. The next `start`, `stop` or `rm -f` tries again.",
  ],
  "vm.identity_failed": [
    "A restored guest could not get its own identity, so it did not run.",
    "See `hearth logs VM`, and try again. To boot instead: for a suspended VM `hearth kill VM` (deletes its suspended memory, keeps its disk), then `hearth start VM`; for a snapshot `hearth create --snapshot NAME --cold`.",
  ],
  "vm.gone": [
    "The VM stopped while the request was in progress, or its VMM ended unexpectedly.",
    "`hearth show VM` shows how it ended.",
  ],
  "vm.panicked": [
    "The guest kernel panicked.",
    "`hearth logs VM` shows the message of the kernel. Start the VM again; `hearth set VM --restart on-failure` does that automatically.",
  ],
  "vmm.failed": [
    "QEMU or Firecracker reported an error, or ended.",
    "See `hearth logs --vmm VM`, and run `hearth doctor`.",
  ],
  "vmm.install_failed": [
    "Firecracker could not be installed.",
    "Fix the cause in the message, and try again.",
  ],
  "vmm.not_isolated": [
    "The isolation of the VMM is not as requested, so the VMM was ended before the guest ran.",
    "Find the program that moves or changes processes on the host, and run `hearth doctor`.",
  ],
  "vmm.missing": ["No installed VMM can run this VM.", "`hearth doctor` shows the package to install."],
  "vmm.unresponsive": [
    "The VMM did not answer in time.",
    "If the host is not overloaded, run `hearth kill VM` and start the VM again.",
  ],
  "agent.unreachable": [
    "The guest agent does not answer.",
    "See `hearth show VM` and `hearth logs VM`. `hearth restart VM` boots the VM again.",
  ],
  "agent.failed": ["The guest agent could not do what was requested.", "Read the reason in the message."],
  "exec.not_found": [
    "The command does not exist in the guest.",
    "Check the name of the command and PATH in the guest.",
  ],
  "exec.not_executable": [
    "The file of the command cannot be executed.",
    "Use `chmod +x` in the guest, or run its interpreter.",
  ],
  "exec.bad_user": [
    "The user or group does not exist in the guest.",
    "Use a user of /etc/passwd or a group of /etc/group in the guest, or numeric IDs.",
  ],
  "guest.disk_full": [
    "The disk of the guest is full.",
    "Delete files in the guest, or stop the VM and enlarge its disk: `hearth set --disk SIZE VM`.",
  ],
  "file.not_found": [
    "The file or directory does not exist.",
    "Check the path in the VM or on the host, as the message says.",
  ],
  "file.refused": [
    "The file cannot be read or written.",
    "Read the reason in the message; see `hearth help cp`.",
  ],
  "file.skipped": [
    "Some files could not be copied, such as devices. All others were copied.",
    "Copy the files in the message in another way, or ignore them.",
  ],
  "image.not_found": [
    "There is no image or kernel with this name or digest.",
    "`hearth image ls` and `hearth kernel ls` list them; `hearth image build IMAGE` builds an image. An existing VM needs exactly the build that it was created from: restore that from a backup.",
  ],
  "image.build_failed": [
    "The image could not be built. Nothing was kept.",
    "Read the output of the tool in the message. Check the network and the disk.",
  ],
  "image.corrupt": [
    "A file of the image is damaged.",
    "Build the image again: `hearth image build --fresh IMAGE`.",
  ],
  "image.in_use": ["VMs or snapshots use the image.", "Remove the VMs and snapshots in the message first."],
  "kernel.unsupported": ["The kernel cannot be used.", "Choose another kernel from `hearth kernel ls`."],
  "disk.missing": [
    "The disk of the VM does not exist.",
    "Mount its file system, restore a backup, or start with a new disk of the image: `hearth start --fresh VM`.",
  ],
  "disk.corrupt": ["A disk layer is damaged.", "Restore it from a backup or a snapshot."],
  "volume.not_found": ["There is no volume with this name.", "`hearth volume ls` lists the volumes."],
  "volume.in_use": [
    "A VM uses the volume.",
    "Stop the VM; to remove the volume, also detach it: `hearth volume detach VM VOLUME`.",
  ],
  "snapshot.not_found": [
    "There is no snapshot or template with this name or ID.",
    "`hearth snapshot ls` and `hearth template ls` list them.",
  ],
  "snapshot.in_use": [
    "A VM uses the snapshot, or needs it for its first start.",
    "Stop the VMs in the message; start or remove those that were never started.",
  ],
  "snapshot.failed": [
    "The VMM could not save or restore the memory.",
    "Read the reason in the message. `hearth snapshot create --disk-only` and `hearth create --cold` work without memory.",
  ],
  "snapshot.corrupt": [
    "A file of the snapshot is damaged.",
    "Restore the file from a backup, or remove the snapshot. A suspended VM: `hearth kill VM` deletes its memory, then `hearth start VM`.",
  ],
  "snapshot.mismatch": [
    "The memory was saved with another host, VMM or version of Hearth, and cannot be restored here.",
    "Boot from the disk: `hearth create --snapshot NAME --cold`. A suspended VM: `hearth kill VM` deletes its memory, then `hearth start VM`.",
  ],
  "archive.corrupt": [
    "The archive is damaged or is not a snapshot of Hearth. Nothing was kept.",
    "Copy or export it again.",
  ],
  "feature.missing": [
    "The driver, the VMM or the guest does not support this.",
    "Use the alternative in the message; docs/drivers.md lists what drivers support.",
  ],
  "download.failed": [
    "A download failed, or its checksum is wrong.",
    "Check the network and the mirror, and try again.",
  ],
  "host.tool_missing": ["A program is not installed on the host.", "Install the package in the hint."],
  "host.tool_failed": ["A program on the host failed.", "Read its output in the message."],
  "host.memory_short": [
    "The host does not have enough memory for the VM.",
    "Stop or suspend other VMs, give the VM less memory, or change `[memory]` in config.toml.",
  ],
  "host.disk_full": [
    "The disk of the host is full.",
    "Free some space: `hearth ls`, `hearth image ls` and `hearth volume ls` show what uses it.",
  ],
  "host.read_only": [
    "A file system of the host is read-only.",
    "Make it writable, or set HEARTH_HOME to another directory.",
  ],
  "host.path_too_long": [
    "The path of a socket would have more than 107 bytes.",
    "Set HEARTH_HOME or XDG_RUNTIME_DIR to a shorter path.",
  ],
  "host.uids_used_up": [
    "All UIDs for VMs are in use.",
    "Stop VMs, or increase `uid_count` of `[isolation]` in config.toml.",
  ],
  "host.addresses_used_up": [
    "The addresses that VMs have on the host are in use.",
    "Stop VMs, or remove other routes to 198.18.0.0/16: `ip route`.",
  ],
  "host.uid_busy": [
    "A process still runs with the UID of a VM that has ended.",
    "`ps -U UID` shows the process; end it.",
  ],
  "host.uid_unmapped": [
    "The UID does not exist in the user namespace of hearthd.",
    "Set `uid_first` of `[isolation]` to a range of /proc/self/uid_map.",
  ],
  "host.helper_gone": [
    "The privileged helper of hearthd has ended, so hearthd ends too. VMs keep running.",
    "Start hearthd and its helper again. The output of the helper shows why it ended.",
  ],
  "host.lock_held": [
    "Another process, such as another hearthd, holds the lock.",
    "`hearth daemon status` shows it.",
  ],
  "path.unmanaged": [
    "A file or directory is not as hearthd expects it: a link that leads elsewhere, another kind of file, a mount, or a wrong owner. hearthd did not use or remove it.",
    "Read the reason in the message; look for links, mounts and other owners.",
  ],
  "store.busy": [
    "Another program has locked the database.",
    "Close that program, such as sqlite3 or a backup tool: `fuser -v PATH` shows it.",
  ],
  "store.corrupt": [
    "The database, or a row in it, is damaged.",
    "Restore it from a backup; see docs/lost-and-found.md.",
  ],
  "store.too_new": [
    "The database was written by a newer version of Hearth.",
    "Run that version, or set HEARTH_HOME to another directory.",
  ],
  "config.invalid": [
    "config.toml, or a variable such as HEARTH_HOME, is invalid or cannot be read.",
    "Correct what the message names; see docs/configuration.md.",
  ],
  "daemon.unreachable": [
    "hearthd is not running, or does not answer.",
    "`hearth daemon start` starts it; see `hearth daemon logs`.",
  ],
  "daemon.stopping": ["hearthd is stopping.", "Try again: the next command starts hearthd."],
  "daemon.start_failed": [
    "hearthd could not start.",
    "Read the reason in the message and run `hearth doctor`; the hint names the file with the output of hearthd.",
  ],
  "api.not_found": [
    "The API does not have this path.",
    "GET /openapi.json lists the paths, except GET /v1/events (server-sent events, src/api/events.ts) and the WebSockets /v1/run and /v1/vms/{vm}/exec.",
  ],
  "api.wrong_method": [
    "The API does not have this method for this path.",
    "Use a method of the `allow` header.",
  ],
  "api.websocket_only": [
    "This path is a WebSocket.",
    "Send a WebSocket handshake; see src/api/exec-stream.ts.",
  ],
  "operation.cancelled": [
    "The operation was cancelled, or its client disconnected. Its steps were undone; a command in a guest was ended.",
    "Try again if you did not cancel it.",
  ],
  "operation.not_found": [
    "There is no operation with this ID; hearthd keeps a limited number of them.",
    "`hearth operation ls --all` lists them.",
  ],
  "operation.taken": ["An operation with this ID is in progress.", "Use a new ID for each request."],
  "operation.lasting": [
    "A stop, restart or kill that has begun cannot be cancelled.",
    "Wait for it; `hearth kill VM` stops the VM immediately.",
  ],
  "operation.too_many": [
    "100 detached operations are in progress, which is the limit.",
    "Wait for one, or cancel it.",
  ],
  "operation.not_detachable": [
    "This request cannot be detached: it only reads, or its body or response is a stream.",
    "Leave out `hearth-detach`.",
  ],
  "operation.taken_over": [
    "A kill or a forced removal of the VM has ended the operation.",
    "The VM was stopped or removed on request. Start or create it again if you still need it.",
  ],
  "operation.timed_out": [
    "The guest agent or hearthd did not finish in time.",
    "See `hearth logs VM` and `hearth daemon logs`, and try again. (`exec --timeout` ends with exit code 124 and without this error.)",
  ],
  "internal.bug": [
    "Unexpected error in Hearth.",
    "Report it, with the lines of the operation in `hearth daemon logs`.",
  ],
};
