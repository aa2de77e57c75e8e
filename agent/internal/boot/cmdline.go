// Package boot takes a guest from its initramfs to a root file system with everything that programs expect.
//
//	kernel ─► /init (the agent) ─► modules ─► disks ─► overlay ─► switch root ─┬─► agent stays PID 1
//	                                 └── hearth.root=none: stays in it         └─► the host configures the guest
//	                                                                               └─► image's init, agent as a service
//
// A step that fails reports it on the console and turns the power off, so that a guest never hangs silently.
package boot

import (
	"fmt"
	"strings"

	"hearth.dev/agent/internal/disks"
)

// Options are the host's settings on the kernel's command line.
type Options struct {
	Root string // "overlay" or "none".
	Init string // "agent" or "systemd".
	VM   string // The VM's name, which is shown on the console only.
	// Channel is how the host connects: a virtio-serial "port" or "vsock".
	Channel string
	// Off is the way to end the VMM: turning the "power" off, or a "restart".
	Off string
	// The disks, by names that disks.Find understands: the image, which is read only and shared by VMs; the VM's own
	// disk; and the disk with the kernel's modules, or empty.
	Base, Disk, Modules string
	// MachineID is for systemd, in an image that has none. May be empty.
	MachineID string
}

// ParseCommandLine parses the kernel's command line. Arguments that are not Hearth's are ignored.
func ParseCommandLine(line string) (Options, error) {
	options := Options{
		Root: "overlay", Init: "agent", Channel: "port", Off: "power", Base: "/dev/vda", Disk: "/dev/vdb",
	}
	for word := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "hearth.root":
			options.Root = value
		case "hearth.init":
			options.Init = value
		case "hearth.vm":
			options.VM = value
		case "hearth.channel":
			options.Channel = value
		case "hearth.off":
			options.Off = value
		case "hearth.base":
			options.Base = value
		case "hearth.disk":
			options.Disk = value
		case "hearth.modules":
			options.Modules = value
		case "systemd.machine_id":
			options.MachineID = value
		}
	}
	if options.Root != "overlay" && options.Root != "none" {
		return options, fmt.Errorf("hearth.root has to be overlay or none, not %q", options.Root)
	}
	if options.Init != "agent" && options.Init != "systemd" {
		return options, fmt.Errorf("hearth.init has to be agent or systemd, not %q", options.Init)
	}
	if options.Channel != "port" && options.Channel != "vsock" {
		return options, fmt.Errorf("hearth.channel has to be port or vsock, not %q", options.Channel)
	}
	if options.Off != "power" && options.Off != "restart" {
		return options, fmt.Errorf("hearth.off has to be power or restart, not %q", options.Off)
	}
	for name, disk := range map[string]string{"base": options.Base, "disk": options.Disk, "modules": options.Modules} {
		if !disks.IsName(disk) && (name != "modules" || disk != "") {
			return options, fmt.Errorf("hearth.%s has to be a device or serial:NAME, not %q", name, disk)
		}
	}
	return options, nil
}
